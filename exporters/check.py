"""What every check has in common, and the one verb: `probe` returns for success and raises Failed for failure."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Self

import re2
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, SecretStr, model_validator

from exporters.connections import Connections
from exporters.durations import Duration, written
from exporters.notes import Notes

LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
RESERVED_LABELS = {"service", "environment", "check_id", "job", "instance", "phase"}
ROUTED_BY = {"alertname", "severity", "rollback", "preserve_logs"}
LONGEST_INTERVAL = 120.0  # seconds: Prometheus forgets a sample after five minutes, and so do the rules


class Pattern:
    """A regular expression of RE2, as Prometheus uses: no text, however malicious, can make it slow."""

    def __init__(self, written: str) -> None:
        self.written = written
        options = re2.Options()
        options.log_errors = False
        self._compiled = re2.compile(written.encode(), options)

    def found_in(self, text: bytes) -> bool:
        """Whether it matches anywhere in the text; anchor it with ^ and $ where that matters."""
        return self._compiled.search(text) is not None


def _compiled(value: object) -> Pattern:
    if isinstance(value, Pattern):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a regular expression, written as a string")
    try:
        return Pattern(value)
    except re2.error as error:
        why = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"is not a regular expression of RE2: {why}") from error


Regex = Annotated[Pattern, PlainValidator(_compiled)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")]


class Check(BaseModel, ABC):
    """One configured question to one target. Durations are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Name
    service: Name
    environment: Name
    type: str
    interval: Duration = 15.0
    timeout: Duration | None = None
    max_latency: Duration | None = None
    labels: dict[str, str] = Field(default_factory=dict)

    reasons: ClassVar[tuple[str, ...]] = ()
    """Why this type can fail, besides `timeout` and `latency`: each is a series probe_failed_due_to_<reason>."""

    @property
    def patience(self) -> float:
        """Seconds that a probe may take; without a `timeout`, the interval but no more than 10 s."""
        return self.timeout or min(10.0, self.interval)

    @property
    @abstractmethod
    def shown_target(self) -> str:
        """What is asked, without secrets."""

    @abstractmethod
    async def probe(self, out: Notes, reach: Connections) -> None:
        """Ask the target once. Failed if the answer is no; Unable if it could not be asked.

        It need not watch the time: it is cancelled at the deadline, and must then leave nothing behind.
        """

    def secrets(self) -> list[str]:
        """Every text that must never be shown."""
        return list(_secrets(self))

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.timeout and self.timeout > self.interval:
            raise ValueError(
                f"timeout {written(self.timeout)} is longer than interval {written(self.interval)}: "
                "Prometheus refuses such a target"
            )
        if self.interval > LONGEST_INTERVAL:
            raise ValueError(
                f"interval {written(self.interval)} is longer than {written(LONGEST_INTERVAL)}: the alert rules look "
                "back five minutes and need several samples"
            )
        for name in self.labels:
            if not LABEL_NAME.fullmatch(name) or name.startswith("__"):
                raise ValueError(f"label {name!r} is not a label name of Prometheus")
            if name in RESERVED_LABELS:
                raise ValueError(f"label {name!r} is set by the exporter or by Prometheus")
            if name in ROUTED_BY:
                raise ValueError(f"label {name!r} is an alert's: rules decide what may be rolled back, not checks")
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
