"""Switches traffic back to the other color, and keeps the failed color for analysis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, Tag, model_validator

from foundation.durations import Duration
from foundation.models import StrictModel
from responder.backends.docker.containers_check import ContainersCheck
from responder.backends.docker.service_image import ServiceImage
from responder.backends.host.proxy import HaproxyServers, NginxInclude
from responder.backends.host.release import CurrentRelease, PointerFile
from responder.backends.kubernetes.objects import condition, main_image, names, trouble_of, unfinished
from responder.backends.kubernetes.pod_template import PodTemplate
from responder.backends.kubernetes.pods_check import PodsCheck
from responder.backends.kubernetes.scale import AutoscalerFloor, KeptPods, Replicas
from responder.backends.kubernetes.surroundings.autoscalers import keda
from responder.backends.kubernetes.surroundings.services import services_only_on
from responder.backends.kubernetes.traffic import ServiceSelector
from responder.backends.problems import Problem
from responder.backends.registries import AnyCheck
from responder.backends.resource import Resource
from responder.config.unions import union_by_key
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Gate, StrategyPlan
from responder.rollback.strategies.docker import containers, each_container, override_problems
from responder.rollback.strategies.kubernetes import Workpiece, also_changed, workpiece
from responder.rollback.strategies.strategy import OneResource, Strategy, read_expecting, value_of
from responder.rollback.version_change import VersionChange

Pointer = Annotated[
    Annotated[PointerFile, Tag("<file>")]
    | Annotated[ServiceSelector, Tag("<service>")]
    | Annotated[NginxInclude, Tag("<nginx>")]
    | Annotated[HaproxyServers, Tag("<haproxy>")],
    union_by_key("pointer", "file", "service", "nginx", "haproxy"),
]


class Color(OneResource):
    """Pods, containers or releases of one color."""

    release: CurrentRelease | None = Field(default=None, description="The releases of this color")
    kubernetes: PodTemplate | None = Field(default=None, description="The Deployment of this color")
    docker: ServiceImage | None = Field(default=None, description="The Compose service of this color")
    ready: tuple[AnyCheck, ...] = Field(default=(), description="Checks of this color alone; required for `release`")

    @model_validator(mode="after")
    def _can_be_checked(self) -> Color:
        if not self.ready and self.release is not None:
            raise ValueError("ready: is missing; a release needs at least one check")
        return self


class Colors(StrictModel):
    """Both colors."""

    blue: Color
    green: Color


class BlueGreen(Strategy):
    """The idle color gets the known-good version and must be ready before the traffic is switched to it."""

    strategy: Literal["blue_green"] = "blue_green"
    pointer: Pointer = Field(description="Resource that selects the live color")
    colors: Colors = Field(description="Both colors by name")
    ready_for: Duration = Field(default=2.0, description="Time that the idle color must be ready before the switch")
    ready_within: Duration = Field(default=60.0, gt=0, description="Deadline for that")
    keep_pods: int = Field(default=1, ge=0, le=20, description="Failed pods to isolate and keep for study")
    failed_replicas: int | None = Field(
        default=None, ge=0, description="Replicas of the failed color after the switch; default: unchanged"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> BlueGreen:
        selector = isinstance(self.pointer, ServiceSelector)
        if any((color.kubernetes is not None) != selector for color in (self.colors.blue, self.colors.green)):
            raise ValueError("pointer: colors in `kubernetes` need a `service` as pointer, and only they can have one")
        return self

    def derived(self) -> Iterator[Resource]:
        for color in (self.colors.blue, self.colors.green):
            if color.kubernetes is not None:
                yield from also_changed(color.kubernetes)
                yield Replicas(**color.kubernetes.where)
                if self.keep_pods:
                    yield KeptPods(**color.kubernetes.where, count=self.keep_pods)

    async def problems(self, gateway: Gateway) -> list[Problem]:
        """Checks that the pointer names a color, and what the plans of each color need."""
        found: list[Problem] = []
        live = await gateway.read(self.pointer)
        if live not in ("blue", "green"):
            fix = "set it to the color that has the traffic"
            found.append(Problem(str(self.pointer), f"names {live!r}, neither blue nor green", fix))
        for color in (self.colors.blue, self.colors.green):
            if color.docker is not None:
                found += await override_problems(gateway, color.docker)
            if color.kubernetes is not None:
                replicas = Replicas(**color.kubernetes.where)
                if scaler := await gateway.ask(replicas, replicas.autoscaler):
                    name, namespace = scaler["metadata"]["name"], color.kubernetes.namespace
                    floor = AutoscalerFloor(namespace=namespace, autoscaler=name)
                    found += await gateway.check_access(floor, within=floor.read_timeout)
        return found

    async def plan(self, gateway: Gateway, version: VersionChange) -> StrategyPlan:
        pointer = self.pointer
        if isinstance(pointer, ServiceSelector):
            pointer = pointer.model_copy(update={"mark": version.execution})
        match live := await gateway.read(pointer):
            case "blue":
                idle, serving, color = "green", self.colors.blue, self.colors.green
            case "green":
                idle, serving, color = "blue", self.colors.green, self.colors.blue
            case _:
                raise StepFailed(f"the {pointer} names {live!r}, neither blue nor green; nothing was changed")
        await _serves(gateway, serving, version)
        await gateway.ask(pointer, lambda c: pointer.preflight(c, idle))
        if isinstance(pointer, HaproxyServers):
            pointer = await gateway.ask(pointer, pointer.as_now)
        if serving.kubernetes is not None and color.kubernetes is not None:
            switching = _InKubernetes(self, pointer, live, idle, serving.kubernetes, color.kubernetes, color.ready)
            return await switching.plan(gateway, version)
        switch = Change(resource=pointer, before=live, after=idle)
        if color.docker is not None:
            work = await containers(gateway, color.docker, version, running=False)
            numbers = tuple(resource.number for resource in work.resources)
            selector = {"project": color.docker.project, "service": color.docker.service, "numbers": numbers}
            well = ContainersCheck.model_validate({"containers": selector})
            before, after = self.gates(idle, (well, *color.ready))
            (changes,) = work.changes(len(work.resources))
            notes = work.notes
            if serving.docker and (now := len(await each_container(gateway, serving.docker))) > len(numbers):
                notes = (*notes, f"{live} has {now} containers and {idle} only {len(numbers)}: the strategy adds none")
            return StrategyPlan(steps=(*changes, before, switch, after, *work.last), notes=notes)
        to, notes = await value_of(gateway, color.chosen, version)
        notes = (*color.unfollowed, *notes)
        first = Change(resource=color.chosen, before=await gateway.read(color.chosen), after=to)
        before, after = self.gates(idle, color.ready)
        return StrategyPlan(steps=(first, before, switch, after), notes=notes)

    def gates(self, idle: str, checks: tuple[AnyCheck, ...]) -> tuple[Gate, Gate]:
        names = f"{idle} is ready before the switch", f"{idle} is ready with traffic"
        before, after = (
            Gate(name=name, checks=checks, hold_for=self.ready_for, within=self.ready_within) for name in names
        )
        return before, after


async def _serves(gateway: Gateway, color: Color, version: VersionChange) -> None:
    """Raises UnexpectedVersion if the color with the traffic does not run the reported version."""
    resources = [color.chosen] if color.docker is None else await each_container(gateway, color.docker)
    for resource in resources:
        await read_expecting(gateway, resource, version)


@dataclass(frozen=True)
class _InKubernetes:
    """Two Deployments behind one Service."""

    strategy: BlueGreen
    pointer: Any
    live: str
    idle: str
    failed: PodTemplate
    good: PodTemplate
    ready: tuple[AnyCheck, ...]

    async def plan(self, gateway: Gateway, version: VersionChange) -> StrategyPlan:
        piece = await workpiece(gateway, self.good, version, running=False)
        if not piece.template.same(piece.before, piece.after):
            await self._require_no_rollout(gateway, piece)
        serving = Replicas(**self.failed.where, mark=version.execution)
        desired, scaled, held = await self._scaled_up(gateway, piece, await _count(gateway, serving) or 1)
        service = await gateway.ask(self.pointer, self.pointer.object)
        labels = {**service["spec"]["selector"], self.pointer.key: self.idle}
        exactly = {key: piece.after[key] for key in ("container", "digest") if key in piece.after}
        selector = {"namespace": self.pointer.namespace, "labels": labels, "at_least": desired, **exactly}
        before, after = self.strategy.gates(self.idle, (PodsCheck.model_validate({"pods": selector}), *self.ready))
        switch = Change(resource=self.pointer, before=self.live, after=self.idle)
        steps = (*piece.first, piece.change(), *piece.last, *scaled, before, switch, after)
        left, notes = await self._left_behind(gateway, serving, version)
        if not await _count(gateway, serving):
            nothing = f"{self.failed.what} is scaled to 0, so {self.idle} gets only {desired}"
            notes = (*notes, f"{nothing}: scale it up if that is too few")
        return StrategyPlan(steps=(*steps, *left), notes=(*piece.notes, *held, *notes))

    async def _require_no_rollout(self, gateway: Gateway, piece: Workpiece) -> None:
        """Raises StepFailed if another version is being rolled out to the idle color."""
        found: Any = await gateway.ask(piece.template, piece.template.object)
        pods = await gateway.ask(piece.template, lambda kube: piece.template.pods(kube, found))
        # A condition about an earlier revision says nothing about this one.
        known = names(found, piece.before["revision"])
        under_way = not known or condition(found, "Progressing").get("reason") in _UNDER_WAY
        under_way = under_way and not any(map(trouble_of, pods))
        if under_way and (waits := unfinished(found)):
            image = main_image(found["spec"]["template"], piece.template.container)
            raise StepFailed(f"{image} is being rolled out to {self.idle}, {piece.template.what}: {waits}")

    async def _scaled_up(
        self, gateway: Gateway, piece: Workpiece, desired: int
    ) -> tuple[int, tuple[Change, ...], tuple[str, ...]]:
        """As many replicas as the other color has now, limited by the autoscaler."""
        resource = Replicas(**self.good.where, mark=piece.template.mark, within=self.good.within)
        changes: list[Change] = []
        notes: tuple[str, ...] = ()
        if scaler := await gateway.ask(resource, resource.autoscaler):
            resource = resource.model_copy(update={"autoscaled": True})
            desired = min(desired, int(scaler["spec"]["maxReplicas"]))
            changes, notes = await self._raised_floor(gateway, scaler, piece.template.mark, desired)
        current = await _count(gateway, resource)
        scaled_by = await gateway.ask(resource, lambda kube: keda(kube, resource))
        if scaled_by and scaled_by.paused_at is not None and scaled_by.paused_at < desired:
            raise StepFailed(
                f"{scaled_by.what} keeps {self.good.what} at {scaled_by.paused_at}, and {desired} are needed "
                "(remove the annotation autoscaling.keda.sh/paused-replicas)"
            )
        if scaled_by and not scaled_by.paused and not changes and not notes:
            notes = (f"{scaled_by.what} may remove pods of {self.good.what} before the switch",)
        if current < desired:
            changes.append(Change(resource=resource, before=current, after=desired))
        return desired, tuple(changes), notes

    async def _raised_floor(
        self, gateway: Gateway, scaler: Any, mark: str, desired: int
    ) -> tuple[list[Change], tuple[str, ...]]:
        """Keeps the autoscaler from removing the pods: it sees their load only some time after the switch."""
        name, namespace = scaler["metadata"]["name"], self.good.namespace
        floor = AutoscalerFloor(namespace=namespace, autoscaler=name, mark=mark)
        now = await gateway.read(floor)
        if not isinstance(now, int) or now >= desired:
            return [], ()
        controllers = [ref["kind"] for ref in scaler["metadata"].get("ownerReferences", ()) if ref.get("controller")]
        if controllers or not await gateway.ask(floor, lambda kube: kube.may("patch", _HPA, namespace, name)):
            why = f"a {controllers[0]} writes it" if controllers else f"the responder's account cannot patch {_HPA}s"
            return [], (f"{floor.what} may remove pods of {self.good.what} before the switch: {why}",)
        note = f"{floor.what} keeps a minimum of {desired} pods afterwards (before: {now})"
        return [Change(resource=floor, before=now, after=desired)], (f"{note}: set it back once it has seen the load",)

    async def _left_behind(
        self, gateway: Gateway, serving: Replicas, version: VersionChange
    ) -> tuple[tuple[Change, ...], tuple[str, ...]]:
        changes: list[Change] = []
        notes: list[str] = []
        kept = KeptPods(**self.failed.where, count=max(self.strategy.keep_pods, 1))
        # Keeping pods for analysis must not fail a rollback.
        if self.strategy.keep_pods and not await gateway.ask(
            kept, lambda kube: kube.may("patch", "Pod", kept.namespace)
        ):
            notes.append(f"no pod is kept for analysis: the responder's account cannot patch pods in {kept.namespace}")
        elif self.strategy.keep_pods:
            mark = version.execution or "by-hand"
            changes.append(Change(resource=kept, before=await gateway.read(kept), after=mark, one_way=True))
        now, then = await _count(gateway, serving), self.strategy.failed_replicas
        others = await self._other_services(gateway)
        notes += (f"{other} selects {self.live} and stays there: switch it yourself" for other in others)
        if then is not None and then != now:
            scaler: Any = await gateway.ask(serving, serving.autoscaler)
            scaled_by = await gateway.ask(serving, lambda kube: keda(kube, serving))
            stays = f"{self.failed.what} stays at {now}: "
            if others and then < now:
                notes.append(f"{stays}{', '.join(others)} would lose its pods")
            elif scaled_by and not scaled_by.stays_at(then):
                notes.append(f"{stays}{scaled_by.what} scales it")
            elif then and scaler:
                notes.append(f"{stays}a HorizontalPodAutoscaler scales it")
            else:
                update = {"autoscaled": scaler is not None, "unready": then, "within": self.failed.within}
                changes.append(Change(resource=serving.model_copy(update=update), before=now, after=then))
        return tuple(changes), tuple(notes)

    async def _other_services(self, gateway: Gateway) -> list[str]:
        """The other Services that have pods of the failed color only."""
        failed, good = [
            (await gateway.ask(color, color.object))["spec"]["template"]["metadata"].get("labels") or {}
            for color in (self.failed, self.good)
        ]
        namespace = self.failed.namespace
        found = await gateway.ask(self.failed, lambda kube: services_only_on(kube, namespace, failed, good))
        return [f"Service {namespace}/{name}" for name in found if name != self.pointer.service]


_HPA = "HorizontalPodAutoscaler"
_UNDER_WAY = ("NewReplicaSetCreated", "FoundNewReplicaSet", "ReplicaSetUpdated")
"""Reasons of the condition Progressing during a rollout that has not failed."""


async def _count(gateway: Gateway, resource: Replicas) -> int:
    found = await gateway.read(resource)
    return found if isinstance(found, int) else 0
