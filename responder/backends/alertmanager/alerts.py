"""Alerts and the groups that they arrive in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from foundation.models import FrozenModel


def aware(when: datetime) -> datetime:
    """The time in UTC. Raises ValueError if it has no time zone."""
    if when.tzinfo is None:
        raise ValueError("a timestamp needs a time zone")
    try:
        return when.astimezone(UTC) if when.year > 1 else when.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("this time is past the end of the calendar") from None


Timestamp = Annotated[datetime, AfterValidator(aware)]

NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time: `endsAt` of a firing alert."""


def fingerprint(labels: dict[str, str]) -> str:
    """Alertmanager's identity of a label set: 64-bit FNV-1a over its sorted pairs (prometheus/common)."""
    value = 0xCBF29CE484222325
    for name in sorted(labels):
        for byte in (*name.encode(), 0xFF, *labels[name].encode(), 0xFF):
            value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


class Alert(FrozenModel):
    """One alert, independent of the group: neither the status nor the common labels of the group apply to it."""

    model_config = ConfigDict(populate_by_name=True)

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)
    starts_at: Timestamp = Field(alias="startsAt")
    ends_at: Timestamp = Field(default=NEVER, alias="endsAt")
    generator_url: str = Field(default="", alias="generatorURL")
    fingerprint: str

    @property
    def name(self) -> str:
        """The `alertname` label; empty if it is missing."""
        return self.labels.get("alertname", "")


class UndatedAlert(Alert):
    """An alert without `startsAt` in its body; `starts_at` is the time of arrival."""


class RefusedAlert(FrozenModel):
    """An alert that cannot be used: the location and reason of the error, and the labels that are readable."""

    where: str
    reason: str
    labels: dict[str, str] = Field(default_factory=dict)
    resolved: bool = False


class AlertGroup(FrozenModel):
    """The usable and the refused alerts of one body.

    `receiver` arrives regexp-quoted and `groupKey` changes with the route tree, so neither is an identity.
    """

    alerts: tuple[Alert, ...]
    refused: tuple[RefusedAlert, ...] = ()
    receiver: str = ""
    truncated_alerts: int = 0
