"""Common to all strategies for pod templates: GitOps controllers, paused rollouts and rollout settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from pydantic import JsonValue

from foundation.models import FrozenModel
from responder.backends.kubernetes.api import AccessDenied
from responder.backends.kubernetes.gitops import owners_of
from responder.backends.kubernetes.pod_template import PodTemplate
from responder.backends.kubernetes.rollout import RolloutPaused, RolloutSettings
from responder.backends.kubernetes.surroundings.autoscalers import notes_on_scale
from responder.backends.resource import Resource
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change
from responder.rollback.strategies.strategy import read_expecting, value_of
from responder.rollback.version_change import VersionChange


class Workpiece(FrozenModel):
    """One pod template, with its value before and after."""

    template: PodTemplate
    before: Any
    after: Any
    first: tuple[Change, ...] = ()  # before the template changes
    last: tuple[Change, ...] = ()  # afterwards
    notes: tuple[str, ...] = ()

    def change(self, **more: Any) -> Change:
        return Change(resource=self.template, before=self.before, after=self.after, **more)


async def workpiece(
    gateway: Gateway, template: PodTemplate, version: VersionChange, *, running: bool = True
) -> Workpiece:
    """The template before and after. `running`: it must be the reported version. Raises StepFailed."""
    template = template.model_copy(update={"mark": version.execution})
    before = await read_expecting(gateway, template, version) if running else await gateway.read(template)
    if before is None:
        raise StepFailed(f"{template.what} does not exist; nothing was changed")
    to, notes = await value_of(gateway, template, version)
    paused = RolloutPaused(**template.where, within=template.within, brings=to)
    (suspended, suspend_notes), scale_notes, is_paused = await asyncio.gather(
        _suspended(gateway, template), _scale_notes(gateway, template, running=running), gateway.read(paused)
    )
    notes = (*notes, *suspend_notes, *scale_notes)
    if template.daemonset or not is_paused:
        return Workpiece(template=template, before=before, after=to, first=suspended, notes=notes)
    again, resumed = Change(resource=paused, before=True, after=None), Change(resource=paused, before=None, after=False)
    return Workpiece(
        template=template, before=before, after=to, first=(*suspended, again), last=(resumed,), notes=notes
    )


async def _scale_notes(gateway: Gateway, template: PodTemplate, *, running: bool) -> tuple[str, ...]:
    """An idle color has no pods, and its plan sets the number."""
    if not running:
        return ()
    return await gateway.ask(template, lambda kube: notes_on_scale(kube, template))


async def _suspended(gateway: Gateway, template: PodTemplate) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    changes, notes = [], []
    for owner in await gateway.ask(template, lambda kube: owners_of(kube, template)):
        if owner.unseen:
            notes.append(f"whether {owner.who} would restore the bad version is unknown: permission denied")
            continue
        if owner.fights or template.gitops == "refuse":
            raise StepFailed(
                f"{template.what} belongs to {owner.who}, which would restore the bad version: {owner.mend}"
                + ("" if owner.fights else " (with gitops: suspend, the responder suspends it)")
            )
        now = await gateway.read(owner.suspend) if owner.suspend is not None else "off"
        if now is None:
            raise StepFailed(
                f"{template.what} belongs to {owner.who}, which cannot be suspended, because it was not found"
            )
        if owner.suspend is not None and now != "off":
            await gateway.ask(owner.suspend, partial(owner.suspend.preflight, value="off"))
            changes.append(Change(resource=owner.suspend, before=now, after="off"))
            notes.append(f"{owner.who} stays suspended afterwards: {owner.mend}, then resume it")
        else:
            notes.append(f"{owner.who}: {owner.mend}")
    return tuple(changes), tuple(notes)


def also_changed(template: PodTemplate) -> Iterator[Resource]:
    """The resources that a plan may change besides the template."""
    yield RolloutSettings(**template.where)
    if not template.daemonset:
        yield RolloutPaused(**template.where)


async def check_settings(gateway: Gateway, template: PodTemplate, desired: Awaitable[dict[str, Any]]) -> None:
    """Raises StepFailed if the cluster refuses them. Missing permissions are problems of the template."""
    with suppress(AccessDenied):
        await try_settings(gateway, template, await desired)


async def try_settings(
    gateway: Gateway, template: PodTemplate, desired: dict[str, Any]
) -> tuple[RolloutSettings, JsonValue]:
    """The rollout settings and their value now. Raises StepFailed if the cluster refuses the desired ones."""
    resource = RolloutSettings(**template.where, fields=tuple(desired))
    found = await gateway.read(resource)
    if desired and found not in (None, desired):
        await gateway.ask(resource, lambda kube: resource.preflight(kube, desired))
    return resource, found


async def with_settings(gateway: Gateway, piece: Workpiece, desired: dict[str, Any], **how: Any) -> tuple[Change, ...]:
    """The changes under other rollout settings, which are restored at the end. Raises StepFailed.

    One patch sets the template and the settings, and one patch reverts both. With the bad template back first, the
    controller would remove as many pods of the good version as the other settings allow.
    """
    resource, found = await try_settings(gateway, piece.template, desired)
    if found == desired:
        return (*piece.first, piece.change(**how), *piece.last)
    temporary = f"{resource}: {resource.describe(desired)} (before: {resource.describe(found)})"
    both = Workpiece(
        template=piece.template.model_copy(update={"with_settings": tuple(desired)}),
        before={**piece.before, "settings": found},
        after={**piece.after, "settings": desired},
    )
    restored = Change(resource=resource, before=desired, after=found, one_way=True, restores=temporary)
    return (*piece.first, both.change(temporary=temporary, **how), *piece.last, restored)
