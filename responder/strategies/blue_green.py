"""Sends traffic back to the colour that served before, and leaves the failed one as it is for study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Tag, model_validator

from responder.checks import Check, ContainersCheck, PodsCheck
from responder.durations import Duration
from responder.errors import Halt
from responder.kubernetes_objects import condition, main_image, names, trouble_of, unfinished
from responder.levers import CurrentRelease, PointerFile
from responder.levers.docker import ServiceImage
from responder.levers.kubernetes import AutoscalerFloor, KeptPods, PodTemplate, Replicas, ServiceSelector
from responder.levers.lever import Lever
from responder.levers.proxy import HaproxyServers, NginxInclude
from responder.plan import Draft, Gate, Move
from responder.problems import Problem
from responder.strategies.docker import containers, each_container, override_problems
from responder.strategies.kubernetes import Workpiece, around, workpiece
from responder.strategies.strategy import Place, Strategy, Target, read_expecting, value_of
from responder.tagged import told_by_key
from responder.world import World

Pointer = Annotated[
    Annotated[PointerFile, Tag("<file>")]
    | Annotated[ServiceSelector, Tag("<service>")]
    | Annotated[NginxInclude, Tag("<nginx>")]
    | Annotated[HaproxyServers, Tag("<haproxy>")],
    told_by_key("pointer", "file", "service", "nginx", "haproxy"),
]


class Colour(Place):
    """One of the two places where the service runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: CurrentRelease | None = Field(default=None, description="The releases of this colour")
    kubernetes: PodTemplate | None = Field(default=None, description="The Deployment of this colour")
    docker: ServiceImage | None = Field(default=None, description="The Compose service of this colour")
    ready: tuple[Check, ...] = Field(default=(), description="What must hold of this colour by itself")

    @model_validator(mode="after")
    def _can_be_asked(self) -> Colour:
        if not self.ready and self.release is not None:
            raise ValueError("ready: is missing: only pods and containers can be asked without it")
        return self


class Colours(BaseModel):
    """Both of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    blue: Colour
    green: Colour


class BlueGreen(Strategy):
    """The idle colour is brought to the good version and proven ready before any traffic goes there."""

    strategy: Literal["blue_green"] = "blue_green"
    pointer: Pointer = Field(description="What says which colour has the traffic")
    colours: Colours = Field(description="Both colours, by their names")
    ready_for: Duration = Field(default=2.0, description="How long the idle colour must be ready before the switch")
    ready_within: Duration = Field(default=60.0, gt=0, description="Deadline for that")
    keep_pods: int = Field(default=1, ge=0, le=20, description="Failed pods that are taken out and kept for study")
    failed_replicas: int | None = Field(
        default=None, ge=0, description="What the failed colour is scaled to after the switch; else left as it is"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> BlueGreen:
        selector = isinstance(self.pointer, ServiceSelector)
        if any((colour.kubernetes is not None) != selector for colour in (self.colours.blue, self.colours.green)):
            raise ValueError("pointer: a Service switches between colours in Kubernetes, and only it does")
        return self

    def derived(self) -> Iterator[Lever]:
        for colour in (self.colours.blue, self.colours.green):
            if colour.kubernetes is not None:
                yield from around(colour.kubernetes)
                yield Replicas(**colour.kubernetes.where)
                if self.keep_pods:
                    yield KeptPods(**colour.kubernetes.where, count=self.keep_pods)

    async def problems(self, world: World) -> list[Problem]:
        """The pointer names one of the colors, and each color has what its plans ask for."""
        found: list[Problem] = []
        live = await world.read(self.pointer)
        if live not in ("blue", "green"):
            fix = "let it name the color that has the traffic"
            found.append(Problem(str(self.pointer), f"names {live!r}, neither blue nor green", fix))
        for colour in (self.colours.blue, self.colours.green):
            if colour.docker is not None:
                found += await override_problems(world, colour.docker)
            if colour.kubernetes is not None:
                replicas = Replicas(**colour.kubernetes.where)
                if scaler := await world.ask(replicas, replicas.autoscaler):
                    name, namespace = scaler["metadata"]["name"], colour.kubernetes.namespace
                    floor = AutoscalerFloor(namespace=namespace, autoscaler=name)
                    found += await world.check_access(floor, within=floor.reads_within)
        return found

    async def draft(self, world: World, target: Target) -> Draft:
        pointer = self.pointer
        if isinstance(pointer, ServiceSelector):
            pointer = pointer.model_copy(update={"mark": target.execution})
        match live := await world.read(pointer):
            case "blue":
                idle, serving, colour = "green", self.colours.blue, self.colours.green
            case "green":
                idle, serving, colour = "blue", self.colours.green, self.colours.blue
            case _:
                raise Halt(f"the {pointer} names {live!r}, neither blue nor green; nothing was touched")
        await _serves(world, serving, target)
        await world.ask(pointer, lambda c: pointer.prepare(c, idle))
        if serving.kubernetes is not None and colour.kubernetes is not None:
            draft = _InKubernetes(self, pointer, live, idle, serving.kubernetes, colour.kubernetes, colour.ready)
            return await draft.made(world, target)
        switch = Move(lever=pointer, was=live, to=idle)
        if colour.docker is not None:
            work = await containers(world, colour.docker, target, running=False)
            numbers = tuple(lever.number for lever in work.levers)
            selector = {"project": colour.docker.project, "service": colour.docker.service, "numbers": numbers}
            well = ContainersCheck.model_validate({"containers": selector})
            before, after = self.gates(idle, (well, *colour.ready))
            (moves,) = work.moves(len(work.levers))
            notes = work.notes
            if serving.docker and (now := len(await each_container(world, serving.docker))) > len(numbers):
                notes = (*notes, f"{live} has {now} containers and {idle} only {len(numbers)}: none are added")
            return Draft(steps=(*moves, before, switch, after, *work.last), notes=notes)
        to, notes = await value_of(world, colour.lever, target)
        notes = (*colour.unfollowed, *notes)
        first = Move(lever=colour.lever, was=await world.read(colour.lever), to=to)
        before, after = self.gates(idle, colour.ready)
        return Draft(steps=(first, before, switch, after), notes=notes)

    def gates(self, idle: str, checks: tuple[Check, ...]) -> tuple[Gate, Gate]:
        names = f"{idle} is ready before it gets traffic", f"{idle} is ready with the traffic"
        before, after = (
            Gate(name=name, checks=checks, hold_for=self.ready_for, within=self.ready_within) for name in names
        )
        return before, after


async def _serves(world: World, colour: Colour, target: Target) -> None:
    """Raises Halt where what has the traffic is not the version that the deployments tell of."""
    levers = [colour.lever] if colour.docker is None else await each_container(world, colour.docker)
    for lever in levers:
        await read_expecting(world, lever, target)


@dataclass(frozen=True)
class _InKubernetes:
    """Two Deployments and the Service in front of them."""

    way: BlueGreen
    pointer: Any
    live: str
    idle: str
    failed: PodTemplate
    good: PodTemplate
    ready: tuple[Check, ...]

    async def made(self, world: World, target: Target) -> Draft:
        piece = await workpiece(world, self.good, target, running=False)
        if not piece.template.same(piece.was, piece.to):
            await self._nobody_rolls_out(world, piece)
        serving = Replicas(**self.failed.where, mark=target.execution)
        wanted, scaled, held = await self._scaled_up(world, piece, await _count(world, serving) or 1)
        service = await world.ask(self.pointer, self.pointer.object)
        labels = {**service["spec"]["selector"], self.pointer.key: self.idle}
        exactly = {key: piece.to[key] for key in ("container", "digest") if key in piece.to}
        selector = {"namespace": self.pointer.namespace, "labels": labels, "at_least": wanted, **exactly}
        before, after = self.way.gates(self.idle, (PodsCheck.model_validate({"pods": selector}), *self.ready))
        switch = Move(lever=self.pointer, was=self.live, to=self.idle)
        steps = (*piece.first, piece.move(), *piece.last, *scaled, before, switch, after)
        left, notes = await self._left_behind(world, serving, target)
        return Draft(steps=(*steps, *left), notes=(*piece.notes, *held, *notes))

    async def _nobody_rolls_out(self, world: World, piece: Workpiece) -> None:
        """Raises Halt where somebody is just putting another version there: they mean to send traffic to it."""
        found: Any = await world.ask(piece.template, piece.template.object)
        pods = await world.ask(piece.template, lambda kube: piece.template.pods(kube, found))
        # A condition that is about the revision before says nothing of this one.
        known = names(found, piece.was["revision"])
        under_way = not known or condition(found, "Progressing").get("reason") in _UNDER_WAY
        under_way = under_way and not any(map(trouble_of, pods))
        if under_way and (waits := unfinished(found)):
            image = main_image(found["spec"]["template"], piece.template.container)
            raise Halt(f"somebody is rolling {image} out to {self.idle}, {piece.template.what}: {waits}")

    async def _scaled_up(
        self, world: World, piece: Workpiece, wanted: int
    ) -> tuple[int, tuple[Move, ...], tuple[str, ...]]:
        """As many as the other colour has now, not as its manifest says, and no more than its autoscaler allows."""
        lever = Replicas(**self.good.where, mark=piece.template.mark, within=self.good.within)
        moves: list[Move] = []
        notes: tuple[str, ...] = ()
        if scaler := await world.ask(lever, lever.autoscaler):
            lever = lever.model_copy(update={"autoscaled": True})
            wanted = min(wanted, int(scaler["spec"]["maxReplicas"]))
            moves, notes = await self._held_up(world, scaler, piece.template.mark, wanted)
        there = await _count(world, lever)
        if there < wanted:
            moves.append(Move(lever=lever, was=there, to=wanted))
        return wanted, tuple(moves), notes

    async def _held_up(self, world: World, scaler: Any, mark: str, wanted: int) -> tuple[list[Move], tuple[str, ...]]:
        """The autoscaler must not take the pods away again; it sees the load only some time after the switch."""
        name, namespace = scaler["metadata"]["name"], self.good.namespace
        floor = AutoscalerFloor(namespace=namespace, autoscaler=name, mark=mark)
        now = await world.read(floor)
        if not isinstance(now, int) or now >= wanted:
            return [], ()
        controllers = [ref["kind"] for ref in scaler["metadata"].get("ownerReferences", ()) if ref.get("controller")]
        if controllers or not await world.ask(floor, lambda kube: kube.may("patch", _HPA, namespace)):
            why = f"a {controllers[0]} writes it" if controllers else f"our account may not patch {_HPA}s"
            return [], (f"{floor.what} may take pods of {self.good.what} away before the switch: {why}",)
        note = f"{floor.what} stays at no fewer than {wanted} pods afterwards (before: {now})"
        return [Move(lever=floor, was=now, to=wanted)], (f"{note}: set it back once it has seen the load",)

    async def _left_behind(
        self, world: World, serving: Replicas, target: Target
    ) -> tuple[tuple[Move, ...], tuple[str, ...]]:
        moves: list[Move] = []
        notes: list[str] = []
        kept = KeptPods(**self.failed.where, count=max(self.way.keep_pods, 1))
        # What is only for study must not be a reason to turn a good rollback back.
        if self.way.keep_pods and not await world.ask(kept, lambda kube: kube.may("patch", "Pod", kept.namespace)):
            notes.append(f"no pod is kept for study: our account may not patch pods in {kept.namespace}")
        elif self.way.keep_pods:
            mark = target.execution or "by-hand"
            moves.append(Move(lever=kept, was=await world.read(kept), to=mark, one_way=True))
        now, then = await _count(world, serving), self.way.failed_replicas
        if then is not None and then != now:
            scaler: Any = await world.ask(serving, serving.autoscaler)
            if then and scaler:
                notes.append(f"{self.failed.what} stays at {now}: a HorizontalPodAutoscaler scales it")
            else:
                update = {"autoscaled": scaler is not None, "unready": then, "within": self.failed.within}
                moves.append(Move(lever=serving.model_copy(update=update), was=now, to=then))
        return tuple(moves), tuple(notes)


_HPA = "HorizontalPodAutoscaler"
_UNDER_WAY = ("NewReplicaSetCreated", "FoundNewReplicaSet", "ReplicaSetUpdated")
"""Reasons of the condition Progressing while a rollout goes on that nobody has given up."""


async def _count(world: World, lever: Replicas) -> int:
    found = await world.read(lever)
    return found if isinstance(found, int) else 0
