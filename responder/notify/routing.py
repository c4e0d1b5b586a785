"""Who hears what: channels by severity, stage and policy, and who is called when nobody reacts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from responder.config.durations import Duration, format_duration
from responder.config.text import meant
from responder.decisions.policies import Policy
from responder.notify.channel import ChannelSettings
from responder.notify.channels.console import ConsoleSettings
from responder.notify.channels.email import EmailSettings
from responder.notify.channels.github import GithubSettings
from responder.notify.channels.grafana import GrafanaSettings
from responder.notify.channels.slack import SlackSettings
from responder.notify.channels.webhook import WebhookSettings
from responder.rollback.events import Accepted, Event
from responder.rollback.execution import begin
from responder.rollback.stages import Stage
from responder.services.service import Name

_SEVERITIES = ("critical", "page", "error", "warning", "info", "none")
Place = tuple[int | str, ...]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


_Either = BeforeValidator(_as_list)


class Escalation(BaseModel):
    """Who is called where nobody reacts."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    after: Duration = Field(gt=0, description="How long it may wait")
    waiting: Annotated[
        tuple[Literal["approval", "stuck"], ...],
        Field(min_length=1, alias="for", description="For approval, or stuck until a human closes it"),
    ] = ("approval", "stuck")
    to: Annotated[tuple[Name, ...], Field(min_length=1, description="Channels, whatever else they hear")]


class Notify(BaseModel):
    """The channels. Each key takes one, or a list of several with a `name` each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slack: Annotated[tuple[SlackSettings, ...], _Either] = Field(default=(), description="Slack")
    email: Annotated[tuple[EmailSettings, ...], _Either] = Field(default=(), description="E-mail")
    webhook: Annotated[tuple[WebhookSettings, ...], _Either] = Field(default=(), description="Signed webhook")
    github: Annotated[tuple[GithubSettings, ...], _Either] = Field(default=(), description="GitHub issues")
    grafana: Annotated[tuple[GrafanaSettings, ...], _Either] = Field(default=(), description="Grafana annotations")
    console: Annotated[tuple[ConsoleSettings, ...], _Either] = Field(default=(), description="The log, as {}")
    severities: tuple[str, ...] = Field(
        default=_SEVERITIES, description="Values of the label `severity`, the most severe first"
    )
    escalate: Annotated[tuple[Escalation, ...], _Either] = Field(
        default=(), description="Who is called where nobody reacts; one, or a list"
    )
    give_up_after: Duration = Field(
        default=86400.0, ge=60, description="What could not be told for so long is given up, and shown as such"
    )

    @property
    def channels(self) -> dict[str, ChannelSettings]:
        """Each by its name."""
        return {channel.called: channel for _, channel in self.placed()}

    def placed(self) -> Iterator[tuple[Place, ChannelSettings]]:
        """Each with its place in the configuration."""
        for kind in ("slack", "email", "webhook", "github", "grafana", "console"):
            for n, channel in enumerate(getattr(self, kind)):
                yield ("notify", kind, n), channel

    def heard_by(self, stage: Stage, severity: str, named: tuple[str, ...] | None) -> tuple[str, ...]:
        """The channels that want to hear it; `named` are those that the policy names, None for all."""
        return tuple(
            name
            for name, channel in self.channels.items()
            if (named is None or name in named)
            and stage in channel.told_stages
            and (not channel.severities or severity not in self.severities or severity in channel.severities)
        )

    def contradictions(self, policies: Sequence[Policy]) -> Iterator[tuple[Place, str]]:
        """What the parts cannot see of each other, nor the policies of them."""
        known: dict[str, str] = {}
        for path, channel in self.placed():
            if channel.called in known:
                yield (*path, "name"), f"{channel.called} is the name of another channel; each needs its own"
            known[channel.called] = channel.kind
            for j, severity in enumerate(channel.severities):
                if severity not in self.severities:
                    problem = f"{severity} is none of notify.severities{meant(severity, self.severities)}"
                    yield (*path, "severities", j), problem
        for i, rule in enumerate(self.escalate):
            for j, name in enumerate(rule.to):
                if name not in known:
                    yield ("notify", "escalate", i, "to", j), f"no channel {name} is configured{meant(name, known)}"
        for i, policy in enumerate(policies):
            for j, name in enumerate(policy.notify or ()):
                if name not in known:
                    yield ("policies", i, "notify", j), f"no channel {name} is configured{meant(name, known)}"
                elif not policy.actions and "alert" not in self.channels[name].told_stages:
                    yield ("policies", i, "notify", j), f"{name} does not tell of alerts: its stages leave that out"

    def overdue(self, waits: Waits, now: datetime) -> Iterator[tuple[str, str]]:
        """The channels to call by now, each with the occasion by which it is called once."""
        for rule in self.escalate:
            if waits.what in rule.waiting and (now - waits.since).total_seconds() >= rule.after:
                for name in rule.to:
                    if name in self.channels:
                        yield name, f"{waits.seq}+{format_duration(rule.after)}"


class Waits(NamedTuple):
    """What an execution waits for, and since which of its events."""

    what: Literal["approval", "stuck"]
    seq: int
    since: datetime


def waits(execution_id: str, events: list[Event]) -> Waits | None:
    """None where it does not wait for a human."""
    opening, *later = events
    assert isinstance(opening, Accepted)  # noqa: S101
    execution, found = begin(execution_id, opening), None
    for event in later:
        before, execution = execution.state, execution.after(event)
        if execution.state not in ("awaiting_approval", "stuck"):
            found = None
        elif execution.state != before:
            found = Waits("approval" if execution.state == "awaiting_approval" else "stuck", execution.seq, event.at)
    return found
