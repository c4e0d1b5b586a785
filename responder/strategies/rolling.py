"""Puts the good version back a few at a time, and turns round as soon as a batch is not well."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from responder.checks import Check, ContainersCheck, PodsCheck
from responder.durations import Duration
from responder.errors import Halt
from responder.kubernetes_objects import is_ready
from responder.levers.docker import ServiceImage
from responder.levers.kubernetes import Partition, PodTemplate, RolloutSettings
from responder.levers.kubernetes.workload import labels_of, partition_of
from responder.levers.lever import Lever
from responder.plan import Draft, Gate, Move, Step
from responder.problems import Problem
from responder.strategies.docker import containers, override_problems
from responder.strategies.kubernetes import Workpiece, around, with_settings, workpiece
from responder.strategies.strategy import Place, Strategy, Target
from responder.world import World


class Rolling(Strategy, Place):
    """Batch by batch; what is not replaced yet goes on serving."""

    strategy: Literal["rolling"] = "rolling"
    kubernetes: PodTemplate | None = Field(default=None, description="Deployment, StatefulSet or DaemonSet")
    docker: ServiceImage | None = Field(default=None, description="Service of a Compose project")
    batch_size: int = Field(default=1, ge=1, description="How many are replaced at a time")
    batch_delay: Duration = Field(default=0.0, description="How long a batch must be well before the next one")
    health_check_interval: Duration = Field(default=2.0, gt=0, description="Pause between two looks at a batch")
    batch_healthy: tuple[Check, ...] = Field(
        default=(),
        description="What must hold at every look, besides readiness; of the new ones, not the whole service",
    )
    surge: bool = Field(
        default=True, description="New ones come before old ones go; false where there is no room for more"
    )

    @model_validator(mode="after")
    def _looks_at_each_batch(self) -> Rolling:
        if self.batch_healthy and self.batch_delay < self.health_check_interval:
            raise ValueError("batch_delay: shorter than health_check_interval, so that a batch would not be looked at")
        return self

    def derived(self) -> Iterator[Lever]:
        if self.kubernetes is not None:
            yield from around(self.kubernetes)
            if self.kubernetes.statefulset:
                yield Partition(**self.kubernetes.where)

    async def problems(self, world: World) -> list[Problem]:
        return await override_problems(world, self.docker) if self.docker else []

    async def draft(self, world: World, target: Target) -> Draft:
        if self.docker is not None:
            return await self._by_container(world, target, self.docker)
        if self.kubernetes is None:
            raise Halt("nothing is named that could be rolled back batch by batch")
        if self.kubernetes.statefulset:
            return await self._by_partition(world, await workpiece(world, self.kubernetes, target))
        whole = self.kubernetes.within + self.batch_delay * await self._batches(world, self.kubernetes)
        piece = await workpiece(world, self.kubernetes.model_copy(update={"within": whole}), target)
        key = "strategy" if piece.template.deployment else "updateStrategy"
        found = await world.read(RolloutSettings(**piece.template.where, fields=(key, "progressDeadlineSeconds")))
        how = found[key] if isinstance(found, dict) else {}
        if not isinstance(how, dict) or how.get("type", "RollingUpdate") != "RollingUpdate":
            kind = how.get("type") if isinstance(how, dict) else how
            raise Halt(f"{piece.template.what} has the strategy {kind}, which has no batches: use immediate")
        surge = self.surge and bool(piece.template.deployment)
        rolling = {"maxSurge": self.batch_size if surge else 0, "maxUnavailable": 0 if surge else self.batch_size}
        ready_for = round(self.batch_delay)
        wanted = {key: {"type": "RollingUpdate", "rollingUpdate": rolling}, "minReadySeconds": ready_for}
        deadline = found.get("progressDeadlineSeconds") if isinstance(found, dict) else None
        if (
            piece.template.deployment and isinstance(deadline, int) and deadline <= ready_for
        ):  # Kubernetes wants it longer than that
            wanted["progressDeadlineSeconds"] = deadline + ready_for
        looks = {"meanwhile": self.batch_healthy, "every": self.health_check_interval}
        resumed = tuple(move.model_copy(update=looks) for move in piece.last)
        piece = piece.model_copy(update={"last": resumed})
        return Draft(steps=await with_settings(world, piece, wanted, **looks), notes=piece.notes)

    async def _batches(self, world: World, template: PodTemplate) -> int:
        """How many there are at most; each of them takes `batch_delay` by itself."""
        found: dict[str, Any] = await world.ask(template, template.object)
        wanted = found.get("status", {}).get("desiredNumberScheduled", 0)
        return math.ceil(int(wanted if template.daemonset else found["spec"].get("replicas", 1)) / self.batch_size)

    async def _by_container(self, world: World, target: Target, lever: ServiceImage) -> Draft:
        work = await containers(world, lever, target)
        steps: list[Step] = []
        for moves in work.moves(self.batch_size):
            steps += moves
            numbers = tuple(move.lever.number for move in moves if isinstance(move.lever, ServiceImage))
            selector = {"project": lever.project, "service": lever.service, "numbers": numbers}
            steps.append(
                Gate(
                    name=f"{lever.project}-{lever.service}-{'+'.join(map(str, numbers))} is well",
                    checks=(ContainersCheck.model_validate({"containers": selector}), *self.batch_healthy),
                    hold_for=self.batch_delay,
                    within=self.batch_delay + lever.within,
                    every=self.health_check_interval,
                )
            )
        return Draft(steps=(*steps, *work.last), notes=work.notes)

    async def _by_partition(self, world: World, piece: Workpiece) -> Draft:
        """All pods are held by a partition, and let go from the highest ordinal down, as StatefulSets are updated."""
        template = piece.template
        found: dict[str, Any] = await world.ask(template, template.object)
        pods = await world.ask(template, lambda kube: template.pods(kube, found))
        if found["spec"]["updateStrategy"].get("type") != "RollingUpdate":
            raise Halt(f"{template.what} has the strategy OnDelete, which has no batches: use immediate")
        ordered = found["spec"].get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        if ordered and not all(map(is_ready, pods)):
            # An ordered StatefulSet goes on past a pod that is not ready only once that pod is deleted, and a held one
            # would come back bad.
            note = f"{template.what} has pods that are not ready, and waits for each of them: no batches"
            move = piece.move(every=self.health_check_interval)
            return Draft(steps=(*piece.first, move, *piece.last), notes=(*piece.notes, note))
        lever = Partition(**template.where, within=template.within)
        replicas = int(found["spec"].get("replicas", 1))
        before = partition_of(found)
        steps: list[Step] = [*piece.first, Move(lever=lever, was=before, to=replicas), piece.move()]
        labels = {**labels_of(found), "controller-revision-hash": piece.to["revision"]}
        at = replicas
        while at > before:
            at, was = max(at - self.batch_size, before), at
            steps.append(Move(lever=lever, was=was, to=at, every=self.health_check_interval))
            ready = PodsCheck.model_validate(
                {"pods": {"namespace": template.namespace, "labels": labels, "at_least": replicas - at}}
            )
            steps.append(
                Gate(
                    name=f"{template.name}-{at} and above are well",
                    checks=(ready, *self.batch_healthy),
                    hold_for=self.batch_delay,
                    within=self.batch_delay + template.within,
                    every=self.health_check_interval,
                )
            )
        return Draft(steps=(*steps, *piece.last), notes=piece.notes)
