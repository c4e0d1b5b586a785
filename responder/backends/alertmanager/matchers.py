"""Alertmanager's matchers: a text selects the same alerts as in a route or a silence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import re2
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

_PLAIN = r"""[^\s{}!=~,\\"'`]+"""
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_MATCHER = re.compile(rf"""\s*({_QUOTED}|{_PLAIN})\s*(=~|!~|!=|=)\s*({_QUOTED}|[^",]*?)\s*""", re.DOTALL)
_ESCAPES = {"n": "\n", "\\": "\\", '"': '"'}
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False  # the library would write to stderr; the error reports it with the path


def _unquoted(text: str, of: str) -> str:
    if not text.startswith('"'):
        return text

    def escaped(found: re.Match[str]) -> str:
        if (char := found[1]) not in _ESCAPES:
            raise ValueError(f"{of!r} has the unknown escape \\{char}")
        return _ESCAPES[char]

    return re.sub(r"\\(.)", escaped, text[1:-1], flags=re.DOTALL)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@dataclass(frozen=True)
class Matcher:
    """A condition on one label. A missing label has the empty value; expressions match the entire value.

    Source: prometheus/alertmanager `pkg/labels` and `matcher/parse`; RE2 is Go's own expression language.
    """

    name: str
    op: str
    value: str

    def __post_init__(self) -> None:
        equal: Callable[[str], bool] = self.value.__eq__
        if self.op in ("=~", "!~"):
            try:
                expression = re2.compile(self.value, _OPTIONS)
            except re2.error as e:
                detail = e.args[0].decode() if isinstance(e.args[0], bytes) else e.args[0]
                raise ValueError(f"{self.value!r} is not a valid RE2 regular expression: {detail}") from None
            equal = lambda text: expression.fullmatch(text) is not None  # noqa: E731
        object.__setattr__(self, "_equal", equal)

    def matches(self, labels: Mapping[str, str]) -> bool:
        return self._equal(labels.get(self.name, "")) is self.op.startswith("=")  # type: ignore[attr-defined]

    def __str__(self) -> str:
        escaped = _escaped(self.value)
        name = self.name if re.fullmatch(_PLAIN, self.name) else f'"{_escaped(self.name)}"'
        return f'{name}{self.op}"{escaped}"'


def parse_matcher(text: object) -> Matcher:
    """A matcher from its text, as `environment=~"prod|staging"`. Raises ValueError."""
    if isinstance(text, Matcher):
        return text
    if not isinstance(text, str):
        raise ValueError(f'a matcher is text such as alertname="BackendDown", not {text!r}')
    if not (found := _MATCHER.fullmatch(text)):
        raise ValueError(f'{text!r} is not a matcher; write it as alertname="BackendDown", with = != =~ or !~')
    name, op, value = found.groups()
    return Matcher(name=_unquoted(name, text), op=op, value=_unquoted(value, text))


MatcherText = Annotated[
    Matcher, PlainValidator(parse_matcher), PlainSerializer(str, return_type=str), WithJsonSchema({"type": "string"})
]
"""A matcher as a field in YAML."""


def all_match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    return all(m.matches(labels) for m in matchers)
