"""Notification routing: which channel delivers what, by severity, stage and policy; escalation if no human responds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from foundation.configuration.suggestions import meant
from foundation.durations import Duration, format_duration
from foundation.models import StrictModel
from foundation.registry import Only, Registry
from responder.decisions.policies import Policy
from responder.notify.channel import ChannelSettings
from responder.notify.channels import CHANNELS
from responder.rollback.events import Accepted, Event
from responder.rollback.execution import begin
from responder.rollback.stages import Stage
from responder.services.service import Name

_SEVERITIES = ("critical", "page", "error", "warning", "info", "none")
Path = tuple[int | str, ...]


def _unknown(name: str, known: Collection[str]) -> str:
    return f"no channel {name} is configured{meant(name, known) or '; add it to notify'}"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


_Either = BeforeValidator(_as_list)


def channels_model(channels: Registry[ChannelSettings]) -> type[BaseModel]:
    """A model with one key for each registered channel. Each key takes one channel, or a list of several."""
    fields: dict[str, Any] = {name: _field(name, channels.only(name)) for name in channels.names}
    return create_model("Channels", __config__=ConfigDict(frozen=True, extra="forbid"), **fields)


def _field(key: str, settings: Only[ChannelSettings]) -> Any:
    def named(value: Any) -> Any:
        items = _as_list(value)
        return [{"name": key, **i} if isinstance(i, dict) else i for i in items] if isinstance(items, list) else items

    channel = Annotated[ChannelSettings, settings]
    return Annotated[tuple[channel, ...], BeforeValidator(named)], ()


class Escalation(StrictModel):
    """Escalation if no human responds."""

    model_config = ConfigDict(populate_by_name=True)

    after: Duration = Field(gt=0, description="Time that a rollback waits for a human before escalation")
    waiting: Annotated[
        tuple[Literal["approval", "stuck"], ...],
        Field(min_length=1, alias="for", description="Wait for `approval`, or `stuck` until a human acts"),
    ] = ("approval", "stuck")
    to: Annotated[tuple[Name, ...], Field(min_length=1, description="Channels to notify, regardless of their filters")]


class Notify(channels_model(CHANNELS)):  # type: ignore[misc]  # its other fields are the registered channels
    """The channels. Each key takes one, or a list of several with a `name` each."""

    severities: tuple[str, ...] = Field(
        default=_SEVERITIES, description="Values of the label `severity`, most severe first"
    )
    escalate: Annotated[tuple[Escalation, ...], _Either] = Field(
        default=(), description="Escalation if no human responds; one rule or a list"
    )
    give_up_after: Duration = Field(
        default=86400.0, ge=60, description="Time to retry a notification before it is given up"
    )

    @property
    def channels(self) -> dict[str, ChannelSettings]:
        """Every configured channel by its name."""
        return {channel.name: channel for _, channel in self.located()}

    def located(self) -> Iterator[tuple[Path, ChannelSettings]]:
        """Every configured channel with its path in the configuration."""
        for key in CHANNELS.names:
            for n, channel in enumerate(getattr(self, key)):
                yield ("notify", key, n), channel

    def channels_for(self, stage: Stage, severity: str, named: tuple[str, ...] | None) -> tuple[str, ...]:
        """The names of the channels that deliver this. `named`: the channels of the policy; None for all."""
        return tuple(
            name
            for name, channel in self.channels.items()
            if (named is None or name in named)
            and stage in channel.selected_stages
            and (not channel.severities or severity not in self.severities or severity in channel.severities)
        )

    def contradictions(self, policies: Sequence[Policy]) -> Iterator[tuple[Path, str]]:
        """Mistakes that no part of the configuration shows by itself, each with its path."""
        known: set[str] = set()
        for path, channel in self.located():
            if channel.name in known:
                yield (*path, "name"), f"{channel.name} is the name of another channel; each needs its own"
            known.add(channel.name)
            for j, severity in enumerate(channel.severities):
                if severity not in self.severities:
                    problem = f"{severity} is not in notify.severities{meant(severity, self.severities)}"
                    yield (*path, "severities", j), problem
        for i, rule in enumerate(self.escalate):
            for j, name in enumerate(rule.to):
                if name not in known:
                    yield ("notify", "escalate", i, "to", j), _unknown(name, known)
        for i, policy in enumerate(policies):
            for j, name in enumerate(policy.notify or ()):
                if name not in known:
                    yield ("policies", i, "notify", j), _unknown(name, known)
                elif not policy.actions and "alert" not in self.channels[name].selected_stages:
                    problem = f"channel {name} does not deliver alerts; add alert to its stages"
                    yield ("policies", i, "notify", j), problem

    def overdue(self, wait: HumanWait, now: datetime) -> Iterator[tuple[str, str]]:
        """The channels to escalate to by now, each with the occasion that makes the escalation happen once."""
        for rule in self.escalate:
            if wait.reason in rule.waiting and (now - wait.since).total_seconds() >= rule.after:
                for name in rule.to:
                    if name in self.channels:
                        yield name, f"{wait.seq}+{format_duration(rule.after)}"


class HumanWait(NamedTuple):
    """What an execution waits for, and since which of its events."""

    reason: Literal["approval", "stuck"]
    seq: int
    since: datetime


def human_wait(execution_id: str, events: list[Event]) -> HumanWait | None:
    """The wait that the execution is in after these events; None if it waits for no human."""
    opening, *later = events
    assert isinstance(opening, Accepted)  # noqa: S101
    execution, wait = begin(execution_id, opening), None
    for event in later:
        before, execution = execution.state, execution.after(event)
        if execution.state not in ("awaiting_approval", "stuck"):
            wait = None
        elif execution.state != before:
            wait = HumanWait("approval" if execution.state == "awaiting_approval" else "stuck", execution.seq, event.at)
    return wait
