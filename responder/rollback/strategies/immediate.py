"""Restores the known-good version everywhere at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from responder.backends.docker.service_image import ServiceImage
from responder.backends.host.release import CurrentRelease
from responder.backends.kubernetes.pod_template import PodTemplate
from responder.backends.kubernetes.rollout import RolloutSettings
from responder.backends.kubernetes.scale import Replicas
from responder.backends.kubernetes.surroundings.autoscalers import keda
from responder.backends.problems import Problem
from responder.backends.registries import AnyResource
from responder.backends.resource import Resource
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, StrategyPlan
from responder.rollback.strategies.docker import containers, override_problems
from responder.rollback.strategies.kubernetes import Workpiece, also_changed, check_settings, with_settings, workpiece
from responder.rollback.strategies.strategy import OneResource, Strategy, read_expecting, value_of
from responder.rollback.version_change import VersionChange


class Immediate(Strategy, OneResource):
    """Replaces the whole service at once, without limiting its unavailability."""

    strategy: Literal["immediate"] = "immediate"
    release: CurrentRelease | None = Field(default=None, description="Directory of releases with a `current` link")
    kubernetes: PodTemplate | None = Field(default=None, description="Deployment, StatefulSet or DaemonSet")
    docker: ServiceImage | None = Field(default=None, description="Service of a Compose project")
    resource: AnyResource | None = Field(default=None, description="Any other versioned resource")
    stop: tuple[Replicas, ...] = Field(default=(), description="Workloads to scale to 0 first")

    def derived(self) -> Iterator[Resource]:
        if self.kubernetes is not None:
            yield from also_changed(self.kubernetes)

    async def problems(self, gateway: Gateway) -> list[Problem]:
        if self.docker is not None:
            return await override_problems(gateway, self.docker)
        if self.kubernetes is not None:
            await check_settings(gateway, self.kubernetes, _settings(gateway, self.kubernetes))
        return []

    async def plan(self, gateway: Gateway, version: VersionChange) -> StrategyPlan:
        stops = [await _stopped(gateway, resource, version) for resource in self.stop]
        if self.kubernetes is not None:
            piece = await workpiece(gateway, self.kubernetes, version)
            return StrategyPlan(steps=(*stops, *await _all_at_once(gateway, piece)), notes=piece.notes)
        if self.docker is not None:
            work = await containers(gateway, self.docker, version)
            (changes,) = work.changes(len(work.resources))
            return StrategyPlan(steps=(*stops, *changes, *work.last), notes=work.notes)
        resource = self.chosen
        before = await read_expecting(gateway, resource, version)
        to, notes = await value_of(gateway, resource, version)
        return StrategyPlan(
            steps=(*stops, Change(resource=resource, before=before, after=to)), notes=(*self.unfollowed, *notes)
        )


async def _stopped(gateway: Gateway, resource: Replicas, version: VersionChange) -> Change:
    await gateway.ask(resource, lambda kube: resource.preflight(kube, 0))
    scaled_by = await gateway.ask(resource, lambda kube: keda(kube, resource))
    if scaled_by and not scaled_by.stays_at(0):
        raise StepFailed(
            f"{resource.what} cannot be stopped, because {scaled_by.what} would scale it up again "
            '(annotate the ScaledObject with autoscaling.keda.sh/paused-replicas: "0")'
        )
    return Change(
        resource=resource.model_copy(update={"mark": version.execution}), before=await gateway.read(resource), after=0
    )


async def _all_at_once(gateway: Gateway, piece: Workpiece) -> tuple[Change, ...]:
    if desired := await _settings(gateway, piece.template):
        return await with_settings(gateway, piece, desired)
    return (*piece.first, piece.change(), *piece.last)


async def _settings(gateway: Gateway, template: PodTemplate) -> dict[str, Any]:
    """Lets every pod be unavailable at once. Empty with `Recreate`: two versions must never overlap."""
    settings = await gateway.read(RolloutSettings(**template.where))
    if template.statefulset or (template.deployment and _is_recreate(settings)):
        return {}
    key = "strategy" if template.deployment else "updateStrategy"
    rolling = {"maxUnavailable": "100%", "maxSurge": 0}
    return {key: {"type": "RollingUpdate", "rollingUpdate": rolling}, "minReadySeconds": 0}


def _is_recreate(settings: object) -> bool:
    return isinstance(settings, dict) and settings["strategy"].get("type") == "Recreate"
