"""The base of every check type: common fields, and `probe`, which returns on success and raises Failed otherwise."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, SecretStr, model_validator

from exporters.clients.connections import Connections
from exporters.output import ProbeOutput
from foundation.durations import Duration, format_duration

LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
RESERVED_LABELS = {"service", "environment", "check_id", "job", "instance", "phase"}
ALERT_LABELS = {"alertname", "severity", "rollback", "preserve_logs"}
LONGEST_INTERVAL = 120.0  # seconds: Prometheus and the alert rules look back five minutes


class Pattern:
    """A regular expression of RE2, as in Prometheus: matching takes linear time for every text."""

    def __init__(self, text: str) -> None:
        """Raises ValueError if it cannot be compiled."""
        import re2  # here: it takes 2 MiB, and many configurations have no regular expression

        self.text = text
        options = re2.Options()
        options.log_errors = False
        try:
            self._compiled = re2.compile(text.encode(), options)
        except re2.error as error:
            why = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
            raise ValueError(f"is not a valid RE2 regular expression: {why}; correct the expression") from error

    def found_in(self, text: bytes) -> bool:
        """Returns whether it matches anywhere in the text."""
        return self._compiled.search(text) is not None


def _compiled(value: object) -> Pattern:
    if isinstance(value, Pattern):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a regular expression; put it in quotes")
    return Pattern(value)


Regex = Annotated[Pattern, PlainValidator(_compiled)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")]
PositiveDuration = Annotated[Duration, Field(gt=0)]


class Check(BaseModel, ABC):
    """One configured check of one target. Durations are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Name
    service: Name
    environment: Name
    type: str
    interval: PositiveDuration = 15.0
    timeout: PositiveDuration | None = None
    max_latency: PositiveDuration | None = None
    labels: dict[str, str] = Field(default_factory=dict)

    reasons: ClassVar[tuple[str, ...]] = ()
    """Why this type can fail, besides `timeout` and `latency`. Each is a series probe_failed_due_to_<reason>."""

    @property
    def time_limit(self) -> float:
        """Seconds that a probe may take: `timeout`, or else the interval up to 10 s."""
        return self.timeout or min(10.0, self.interval)

    @property
    @abstractmethod
    def shown_target(self) -> str:
        """The target, without secrets."""

    @abstractmethod
    async def probe(self, out: ProbeOutput, connections: Connections) -> None:
        """Probes the target once. Raises Failed if it fails the check, Unable if the probe could not be made.

        It needs no own timeout: it is cancelled at the deadline, and must then release all resources.
        """

    def secrets(self) -> list[str]:
        """Returns every text that must never be shown."""
        return list(_secrets(self))

    @model_validator(mode="after")
    def _valid_for_prometheus(self) -> Self:
        interval = format_duration(self.interval)
        if self.timeout and self.timeout > self.interval:
            raise ValueError(
                f"timeout {format_duration(self.timeout)} is longer than interval {interval}, "
                "and Prometheus rejects such a target; make the timeout shorter"
            )
        if self.interval > LONGEST_INTERVAL:
            raise ValueError(
                f"interval {interval} is longer than {format_duration(LONGEST_INTERVAL)}: the alert rules look back "
                "five minutes and need several samples; make the interval shorter"
            )
        for name in self.labels:
            if not LABEL_NAME.fullmatch(name) or name.startswith("__"):
                raise ValueError(f"label {name!r} is not a valid label name of Prometheus; use letters, digits and _")
            if name in RESERVED_LABELS:
                raise ValueError(f"label {name!r} is set by the exporter or by Prometheus; use another name")
            if name in ALERT_LABELS:
                raise ValueError(f"label {name!r} belongs to alert rules, which decide on rollbacks; remove it")
        return self


def _secrets(value: Any) -> Iterator[str]:
    match value:
        case SecretStr():
            yield value.get_secret_value()
        case BaseModel():
            for name in type(value).model_fields:
                yield from _secrets(getattr(value, name))
        case dict():
            for item in value.values():
                yield from _secrets(item)
        case tuple() | list():
            for item in value:
                yield from _secrets(item)
