"""Alertmanager's matchers: a text selects the same alerts as in a route or a silence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

import re2
from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from responder.backends.alertmanager import matcher_grammar
from responder.backends.alertmanager.matcher_grammar import Parts

_EXAMPLE = 'write it as alertname="BackendDown", with = != =~ or !~'
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False  # the library would write to stderr; the error reports it with the path
_SINGLE_BYTE = re2.compile(r"(?s)\A(?:[^\\]|\\[^CQ]|\\Q.*?(?:\\E|\z))*\\C")


@dataclass(frozen=True)
class Matcher:
    """A condition on one label. A missing label has the empty value; expressions match the entire value.

    Source: prometheus/alertmanager `pkg/labels`; RE2 is Go's own expression language.
    """

    name: str
    op: str
    value: str
    note: str = field(default="", compare=False, repr=False)
    """What is wrong with its text although it can be read, and how to write it; empty if nothing is."""

    def __post_init__(self) -> None:
        equal: Callable[[str], bool] = self.value.__eq__
        if self.op in ("=~", "!~"):
            # As Alertmanager anchors it: `a)|(b` is two alternatives there, too.
            expression = _compiled(self.value)
            equal = lambda text: expression.search(text) is not None  # noqa: E731
        object.__setattr__(self, "_equal", equal)

    def matches(self, labels: Mapping[str, str]) -> bool:
        return self._equal(labels.get(self.name, "")) is self.op.startswith("=")  # type: ignore[attr-defined]

    def __str__(self) -> str:
        name = self.name if re.fullmatch(matcher_grammar.PLAIN, self.name) else _quoted(self.name)
        return f"{name}{self.op}{_quoted(self.value)}"


def _quoted(text: str) -> str:
    """The text in quotes, as both grammars read it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _compiled(expression: str) -> re2._Regexp:
    if _SINGLE_BYTE.search(expression):
        raise ValueError(f"{expression!r} is not a valid RE2 regular expression: Go does not know \\C")
    try:
        return re2.compile(f"^(?:{expression})$", _OPTIONS)
    except re2.error as e:
        detail = e.args[0].decode() if isinstance(e.args[0], bytes) else e.args[0]
        raise ValueError(f"{expression!r} is not a valid RE2 regular expression: {detail}") from None


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """The matchers of a text, as Alertmanager reads an item of `matchers`. Raises ValueError.

    Where both grammars read the text, the classic reading decides, as in Alertmanager without the feature flags
    `classic-mode` and `utf8-strict-mode`.
    """
    old, new = _read(matcher_grammar.classic, text), _read(matcher_grammar.utf8, text)
    if not isinstance(old, ValueError):
        read, note = old, _suspicious(text, old) or _disputed(old, new)
    elif not isinstance(new, ValueError):
        read, note = new, _suspicious(text, new)
    else:
        raise ValueError(f"{text!r} is not a matcher: {old}; {_EXAMPLE}")
    return tuple(replace(matcher, note=f"{text!r}: {note}") for matcher in read) if note else read


def _suspicious(text: str, matchers: Iterable[Matcher]) -> str:
    """Why the matchers probably never match; empty if nothing looks wrong."""
    for matcher in matchers:
        if not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", matcher.name) and _quoted(matcher.name) not in text:
            return f"only Prometheus 3 has labels named {matcher.name}; for one of those, write the name in quotes"
        if re.fullmatch("(['`]).*\\1", matcher.value, re.DOTALL) and _quoted(matcher.value) not in text:
            meant = replace(matcher, value=matcher.value[1:-1])
            return f"these quotes are part of the value; write it as {meant}, or as {matcher} if you mean them"
    return ""


def _disputed(old: tuple[Matcher, ...], new: tuple[Matcher, ...] | ValueError) -> str:
    """Why newer Alertmanagers warn about a text; empty if they do not."""
    if old == new:
        return ""
    reading = "cannot read it" if isinstance(new, ValueError) else f"would read it as {_listed(new)}"
    return f"the UTF-8 mode of newer Alertmanagers {reading}; write it as {_listed(old)}"


def _listed(matchers: Iterable[Matcher]) -> str:
    return ",".join(map(str, matchers))


def _read(grammar: Callable[[str], list[Parts]], text: str) -> tuple[Matcher, ...] | ValueError:
    try:
        text.encode()  # a lone surrogate is no text
        return tuple(Matcher(*parts) for parts in grammar(text))
    except ValueError as e:
        return e


def _item(value: object) -> tuple[Matcher, ...]:
    """The matchers of one item of a list. One that selects everything is a mistake here."""
    if isinstance(value, Matcher):
        return (value,)
    if not isinstance(value, str):
        raise ValueError(f'a matcher is text such as alertname="BackendDown", not {value!r}')
    if not (matchers := parse_matchers(value)):
        raise ValueError(f"{value!r} contains no matcher; {_EXAMPLE}")
    return matchers


def _joined(items: tuple[tuple[Matcher, ...], ...]) -> tuple[Matcher, ...]:
    return tuple(matcher for item in items for matcher in item)


MatcherText = Annotated[
    Matcher, PlainValidator(_item), PlainSerializer(str, return_type=str), WithJsonSchema({"type": "string"})
]
"""An item of a list of matchers in YAML. As in Alertmanager, it may contain several, separated by commas."""

Matchers = Annotated[tuple[MatcherText, ...], Field(min_length=1), AfterValidator(_joined)]
"""A list of matchers in YAML."""


def all_match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    return all(m.matches(labels) for m in matchers)
