"""Restores the known-good version batch by batch, and reverts as soon as a batch is unhealthy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from foundation.durations import Duration
from responder.backends.docker.containers_check import ContainersCheck
from responder.backends.docker.service_image import ServiceImage
from responder.backends.kubernetes.objects import is_ready
from responder.backends.kubernetes.pod_template import PodTemplate
from responder.backends.kubernetes.pods_check import PodsCheck
from responder.backends.kubernetes.rollout import Partition, RolloutSettings
from responder.backends.kubernetes.surroundings.nodes import lost_if_visible
from responder.backends.kubernetes.workload import labels_of, partition_of
from responder.backends.problems import Problem
from responder.backends.registries import AnyCheck
from responder.backends.resource import Resource
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Gate, Step, StrategyPlan
from responder.rollback.strategies.docker import containers, override_problems
from responder.rollback.strategies.kubernetes import Workpiece, also_changed, check_settings, with_settings, workpiece
from responder.rollback.strategies.strategy import OneResource, Strategy
from responder.rollback.version_change import VersionChange


class Rolling(Strategy, OneResource):
    """Replaces one batch after the other, while the rest keeps serving."""

    strategy: Literal["rolling"] = "rolling"
    kubernetes: PodTemplate | None = Field(default=None, description="Deployment, StatefulSet or DaemonSet")
    docker: ServiceImage | None = Field(default=None, description="Service of a Compose project")
    batch_size: int = Field(default=1, ge=1, description="Pods or containers to replace at a time")
    batch_delay: Duration = Field(default=0.0, description="Time that a batch must be healthy before the next one")
    health_check_interval: Duration = Field(default=2.0, gt=0, description="Pause between checks of a batch")
    batch_healthy: tuple[AnyCheck, ...] = Field(
        default=(),
        description="Checks of the new pods or containers that must pass throughout each batch, besides readiness",
    )
    surge: bool = Field(
        default=True, description="Start new pods before old ones stop; false if there is no capacity for more"
    )

    @model_validator(mode="after")
    def _looks_at_each_batch(self) -> Rolling:
        if self.batch_healthy and self.batch_delay < self.health_check_interval:
            raise ValueError("batch_delay: shorter than health_check_interval, so no batch would be checked")
        return self

    def derived(self) -> Iterator[Resource]:
        if self.kubernetes is not None:
            yield from also_changed(self.kubernetes)
            if self.kubernetes.statefulset:
                yield Partition(**self.kubernetes.where)

    async def problems(self, gateway: Gateway) -> list[Problem]:
        if self.docker is not None:
            return await override_problems(gateway, self.docker)
        if self.kubernetes is not None:
            await check_settings(gateway, self.kubernetes, self._settings(gateway, self.kubernetes))
        return []

    async def plan(self, gateway: Gateway, version: VersionChange) -> StrategyPlan:
        if self.docker is not None:
            return await self._by_container(gateway, version, self.docker)
        if self.kubernetes is None:
            raise StepFailed("neither `kubernetes` nor `docker` is configured, so there are no batches")
        if self.kubernetes.statefulset:
            return await self._by_partition(gateway, await workpiece(gateway, self.kubernetes, version))
        within = self.kubernetes.within + self.batch_delay * await self._batches(gateway, self.kubernetes)
        piece = await workpiece(gateway, self.kubernetes.model_copy(update={"within": within}), version)
        desired = await self._settings(gateway, piece.template)
        looks = {"meanwhile": self.batch_healthy, "every": self.health_check_interval}
        resumed = tuple(change.model_copy(update=looks) for change in piece.last)
        piece = piece.model_copy(update={"last": resumed})
        return StrategyPlan(steps=await with_settings(gateway, piece, desired, **looks), notes=piece.notes)

    async def _settings(self, gateway: Gateway, template: PodTemplate) -> dict[str, Any]:
        """The rollout settings of batches; empty for a StatefulSet. Raises StepFailed if there can be no batches."""
        key = "strategy" if template.deployment else "updateStrategy"
        found = await gateway.read(RolloutSettings(**template.where, fields=(key, "progressDeadlineSeconds")))
        how = found[key] if isinstance(found, dict) else {}
        if not isinstance(how, dict) or how.get("type", "RollingUpdate") != "RollingUpdate":
            kind = how.get("type") if isinstance(how, dict) else how
            raise StepFailed(f"{template.what} has the strategy {kind}, which has no batches: use immediate")
        if template.statefulset:
            return {}
        surge = self.surge and bool(template.deployment)
        # The pods on failed nodes are unavailable all the time.
        down = self.batch_size + await self._lost(gateway, template)
        rolling = {"maxSurge": self.batch_size if surge else 0, "maxUnavailable": 0 if surge else down}
        ready_for = round(self.batch_delay)
        desired = {key: {"type": "RollingUpdate", "rollingUpdate": rolling}, "minReadySeconds": ready_for}
        deadline = found.get("progressDeadlineSeconds") if isinstance(found, dict) else None
        if template.deployment and isinstance(deadline, int) and deadline <= ready_for:
            # Kubernetes requires a longer deadline.
            desired["progressDeadlineSeconds"] = deadline + ready_for
        return desired

    async def _lost(self, gateway: Gateway, template: PodTemplate) -> int:
        """The number of pods of a DaemonSet on nodes that are not ready."""
        if not template.daemonset:
            return 0
        found: dict[str, Any] = await gateway.ask(template, template.object)
        pods = await gateway.ask(template, lambda kube: template.pods(kube, found))
        return len(await gateway.ask(template, lambda kube: lost_if_visible(kube, pods)))

    async def _batches(self, gateway: Gateway, template: PodTemplate) -> int:
        """The number of batches at most; each takes `batch_delay`."""
        found: dict[str, Any] = await gateway.ask(template, template.object)
        desired = found.get("status", {}).get("desiredNumberScheduled", 0)
        return math.ceil(int(desired if template.daemonset else found["spec"].get("replicas", 1)) / self.batch_size)

    async def _by_container(self, gateway: Gateway, version: VersionChange, resource: ServiceImage) -> StrategyPlan:
        work = await containers(gateway, resource, version)
        steps: list[Step] = []
        for changes in work.changes(self.batch_size):
            steps += changes
            numbers = tuple(change.resource.number for change in changes if isinstance(change.resource, ServiceImage))
            selector = {"project": resource.project, "service": resource.service, "numbers": numbers}
            steps.append(
                Gate(
                    name=f"{resource.project}-{resource.service}-{'+'.join(map(str, numbers))} is healthy",
                    checks=(ContainersCheck.model_validate({"containers": selector}), *self.batch_healthy),
                    hold_for=self.batch_delay,
                    within=self.batch_delay + resource.within,
                    every=self.health_check_interval,
                )
            )
        return StrategyPlan(steps=(*steps, *work.last), notes=work.notes)

    async def _by_partition(self, gateway: Gateway, piece: Workpiece) -> StrategyPlan:
        """Lowers the partition step by step: StatefulSets update from the highest ordinal down."""
        template = piece.template
        found: dict[str, Any] = await gateway.ask(template, template.object)
        pods = await gateway.ask(template, lambda kube: template.pods(kube, found))
        await self._settings(gateway, template)
        ordered = found["spec"].get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        if ordered and not all(map(is_ready, pods)):
            # An ordered StatefulSet proceeds past an unready pod only once that is deleted, and a pod held by the
            # partition would come back with the bad version.
            note = f"{template.what} has pods that are not ready, and waits for each of them: no batches"
            change = piece.change(every=self.health_check_interval)
            return StrategyPlan(steps=(*piece.first, change, *piece.last), notes=(*piece.notes, note))
        resource = Partition(**template.where, within=template.within)
        replicas = int(found["spec"].get("replicas", 1))
        lowest = partition_of(found)
        held = f"{resource}: {replicas} (before: {lowest})" if replicas > lowest else ""
        hold = Change(resource=resource, before=lowest, after=replicas, temporary=held)
        steps: list[Step] = [*piece.first, hold, piece.change()]
        labels = {**labels_of(found), "controller-revision-hash": piece.after["revision"]}
        at = replicas
        while at > lowest:
            at, before = max(at - self.batch_size, lowest), at
            restores = held if at == lowest else ""
            steps.append(
                Change(resource=resource, before=before, after=at, every=self.health_check_interval, restores=restores)
            )
            ready = PodsCheck.model_validate(
                {"pods": {"namespace": template.namespace, "labels": labels, "at_least": replicas - at}}
            )
            steps.append(
                Gate(
                    name=f"{template.name}-{at} and above are healthy",
                    checks=(ready, *self.batch_healthy),
                    hold_for=self.batch_delay,
                    within=self.batch_delay + template.within,
                    every=self.health_check_interval,
                )
            )
        return StrategyPlan(steps=(*steps, *piece.last), notes=piece.notes)
