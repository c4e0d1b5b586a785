"""What senders tell us: Alertmanager's webhook body (version 4), Grafana's, and the bare lists of vmalert."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from responder.errors import Invalid

MAX_DEPTH = 8
"""Levels of nesting; Alertmanager's own bodies have four."""

_OUTSIDE_BRACKETS = re.compile(rb'[^][{}"]+|"(?:[^"\\]+|\\.)*"', re.DOTALL)


def _aware(when: datetime) -> datetime:
    if when.tzinfo is None:
        raise ValueError("a timestamp needs a time zone")
    try:
        return when.astimezone(UTC) if when.year > 1 else when.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("this time is past the end of the calendar") from None


Timestamp = Annotated[datetime, AfterValidator(_aware)]
_Name = Annotated[str, Field(min_length=1, max_length=128)]
# PostgreSQL has no text with a NUL in it: a body that it refuses would be sent, and refused, again and again.
_NoNul = AfterValidator(lambda text: text.replace("\0", "\ufffd"))
_Labels = Annotated[dict[_Name, Annotated[str, Field(max_length=1024), _NoNul]], Field(max_length=64)]
_Annotations = Annotated[dict[_Name, Annotated[str, Field(max_length=16384), _NoNul]], Field(max_length=64)]

NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time, which a firing alert carries as `endsAt`."""


def fingerprint(labels: dict[str, str]) -> str:
    """Alertmanager's identity of a label set: 64-bit FNV-1a over its sorted pairs (prometheus/common)."""
    value = 0xCBF29CE484222325
    for name in sorted(labels):
        for byte in (*name.encode(), 0xFF, *labels[name].encode(), 0xFF):
            value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


class Alert(BaseModel):
    """One alert of a body, judged by itself: neither the group's status nor its common labels say anything about it."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    status: Literal["firing", "resolved"]
    labels: _Labels
    annotations: _Annotations = Field(default_factory=dict)
    starts_at: Timestamp = Field(alias="startsAt")
    ends_at: Timestamp = Field(default=NEVER, alias="endsAt")
    generator_url: str = Field(default="", alias="generatorURL", max_length=8192)
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]

    @property
    def name(self) -> str:
        """The `alertname` label, empty where a sender left it out."""
        return self.labels.get("alertname", "")


class AlertGroup(BaseModel):
    """One webhook body. Unknown fields are accepted, unknown versions refused.

    `receiver` arrives regexp-quoted and `groupKey` changes with the route tree: neither identifies anything.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    version: Literal["4", "1"]  # "1" is Grafana Alerting's, which has the same fields
    alerts: Annotated[tuple[Alert, ...], Field(max_length=2000)]
    receiver: str = ""
    external_url: str = Field(default="", alias="externalURL")
    truncated_alerts: int = Field(default=0, alias="truncatedAlerts", ge=0)


class _PostedAlert(BaseModel):
    """An alert as Prometheus and vmalert post it to an Alertmanager: no status and no fingerprint yet."""

    model_config = ConfigDict(extra="ignore")

    labels: _Labels
    annotations: _Annotations = Field(default_factory=dict)
    starts_at: Timestamp = Field(alias="startsAt")
    ends_at: Timestamp = Field(default=NEVER, alias="endsAt")
    generator_url: str = Field(default="", alias="generatorURL", max_length=8192)

    @model_validator(mode="before")
    @classmethod
    def _labels_that_are_empty_are_absent(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("labels"), dict):
            return {**value, "labels": {k: v for k, v in value["labels"].items() if v != ""}}
        return value

    def seen_at(self, now: datetime) -> Alert:
        over = self.ends_at != NEVER and self.ends_at <= now
        return Alert(
            status="resolved" if over else "firing",
            labels=self.labels,
            annotations=self.annotations,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
            generator_url=self.generator_url,
            fingerprint=fingerprint(self.labels),
        )


_POSTED = TypeAdapter(Annotated[list[_PostedAlert], Field(max_length=2000)])


def path_of(location: tuple[int | str, ...]) -> str:
    """A pydantic location as people write it: `alerts[3].labels`."""
    out = ""
    for part in location:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def _too_deep(body: bytes) -> bool:
    """Whether brackets nest deeper than MAX_DEPTH, in time linear in the body; broken JSON is for the parser to say."""
    left = _OUTSIDE_BRACKETS.sub(b"", body)
    for _ in range(MAX_DEPTH):
        left = left.replace(b"{}", b"").replace(b"[]", b"")
    return b"{" in left or b"[" in left


def read_body(body: bytes, now: datetime) -> AlertGroup:
    """The alerts of a request body. Raises `Invalid` with the path of the first mistake.

    A JSON object is Alertmanager's or Grafana's webhook; a list is what vmalert (or a Prometheus) posts to its
    notifiers, so that either can also be pointed here without an Alertmanager between.
    """
    try:
        if body.lstrip()[:1] == b"[":
            group = AlertGroup(version="4", alerts=tuple(p.seen_at(now) for p in _POSTED.validate_json(body)))
        else:
            group = AlertGroup.model_validate_json(body)
    except ValidationError as e:
        first = e.errors(include_url=False, include_context=False)[0]
        where = path_of(first["loc"])
        if where == "version":
            raise Invalid(
                f"this is not Alertmanager's webhook version 4: {first['msg']}, got {first['input']!r:.80}", where
            ) from None
        if first["type"] == "json_invalid":
            raise Invalid(first["msg"], "body") from None
        raise Invalid(f"{first['msg']} ({e.error_count()} mistakes in all)", where or "body") from None
    if _too_deep(body):
        raise Invalid(f"nested deeper than {MAX_DEPTH} levels", "body")
    return group
