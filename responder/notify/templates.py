"""Templates that users write: sandboxed Jinja2 that escapes every value for its channel."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import AfterValidator

from foundation.configuration.suggestions import meant
from responder.logging import say
from responder.notify.notification import VARIABLES, Notification

log = logging.getLogger("responder.notify")

Escape = Callable[[str], str]


class BadTemplate(Exception):
    """The template failed for this notification; the default text is delivered instead."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox without operators that can exhaust memory."""

    intercepted_binops = frozenset(("*", "**"))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or not all(isinstance(operand, int | float) for operand in (left, right)):
            raise SecurityError(f"operator {operator} is not allowed here: * takes two numbers, ** is disabled")
        return super().call_binop(context, operator, left, right)


def _environment(escape: Escape | None) -> _Sandbox:
    def shown(value: Any) -> Any:
        text = f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else "" if value is None else value
        return escape(str(text)) if escape else text

    made = _Sandbox(
        undefined=StrictUndefined, autoescape=escape is None, finalize=shown, trim_blocks=True, lstrip_blocks=True
    )
    del made.filters["safe"]  # a label value stays a value
    return made


def rendered(text: str, escape: Escape | None, notification: Notification) -> str:
    """The rendered template. `escape` applies to every value; None escapes for HTML. Raises BadTemplate."""
    return Text(text, escape)._render(notification)


class Text:
    """Renders a template of the user, or the default text."""

    def __init__(self, template: str | None, escape: Escape | None) -> None:
        self._template = None if template is None else _environment(escape).from_string(template)

    def of(self, notification: Notification, default: str) -> str:
        """The text; the default without a template, or if it fails: a template must hold back no notification."""
        if self._template is None:
            return default
        try:
            return self._render(notification) or default
        except BadTemplate as e:
            say(log, "template failed", level=logging.WARNING, stage=notification.stage, reason=str(e))
            return default

    def _render(self, notification: Notification) -> str:
        try:
            return self._template.render(notification.variables()).strip() if self._template else ""
        except Exception as e:
            raise BadTemplate(f"{type(e).__name__}: {e}") from e


def _checked(text: str) -> str:
    environment = _environment(None)
    try:
        parsed = environment.parse(text)
        environment.from_string(text)
    except TemplateSyntaxError as e:
        raise ValueError(f"not a template: line {e.lineno}: {e.message}") from None
    except TemplateError as e:
        raise ValueError(f"not a template: {e}") from None
    if any(parsed.find_all((nodes.EvalContextModifier, nodes.ScopedEvalContextModifier))):
        raise ValueError("escaping cannot be switched off in a template")
    if any(parsed.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends))):
        raise ValueError("a template cannot load another one")
    for name in sorted(find_undeclared_variables(parsed) - VARIABLES - set(environment.globals)):
        raise ValueError(f"unknown variable {name} in a template{meant(name, VARIABLES)}")
    return text


TemplateText = Annotated[str, AfterValidator(_checked)]
"""A Jinja2 template in the configuration. Validation rejects syntax errors and unknown variables."""
