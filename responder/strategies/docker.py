"""What every strategy does with the containers of a Compose service: one move each, and a file that remembers it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from responder.errors import Halt
from responder.levers.compose import ComposeOverride, override_beside
from responder.levers.docker import ServiceImage
from responder.plan import Move
from responder.problems import Problem
from responder.strategies.strategy import Target, read_expecting, value_of
from responder.world import World


class Containers(BaseModel):
    """The containers of one service on their way to the good image."""

    model_config = ConfigDict(frozen=True)

    levers: tuple[ServiceImage, ...]
    was: tuple[Any, ...]
    to: Any
    last: tuple[Move, ...] = ()  # afterwards: what the next `docker compose up` reads
    notes: tuple[str, ...] = ()

    def moves(self, size: int) -> list[tuple[Move, ...]]:
        """Batches of so many containers; after the last move of each, all of it is healthy."""
        every = list(zip(self.levers, self.was, strict=True))
        batches = [every[at : at + size] for at in range(0, len(every), size)]
        return [tuple(self._batch(batch)) for batch in batches]

    def _batch(self, batch: list[tuple[ServiceImage, Any]]) -> list[Move]:
        numbers = tuple(lever.number for lever, _ in batch)
        last = len(batch) - 1
        return [
            Move(lever=lever.model_copy(update={"wait_for": numbers if i == last else ()}), was=was, to=self.to)
            for i, (lever, was) in enumerate(batch)
        ]


async def each_container(world: World, lever: ServiceImage) -> list[ServiceImage]:
    """The lever of each container of the service."""
    slots = await world.ask(lever, lever.slots)
    return [lever.model_copy(update={"number": slot.number, "stop_within": slot.stops_within}) for slot in slots]


async def containers(world: World, lever: ServiceImage, target: Target, *, running: bool = True) -> Containers:
    """The containers as they are and the image that they shall have. Raises Halt."""
    slots = await world.ask(lever, lever.slots)
    levers = await each_container(world, lever.model_copy(update={"mark": target.execution}))
    was = [await (read_expecting(world, item, target) if running else world.read(item)) for item in levers]
    to, notes = await value_of(world, lever, target)
    labels = slots[0].pattern["Config"]["Labels"]
    last, last_notes = await _remembered(
        world, lever, labels, await world.ask(lever, lambda docker: lever.lasting(docker, to))
    )
    return Containers(levers=tuple(levers), was=tuple(was), to=to, last=last, notes=(*notes, *last_notes))


def _override(lever: ServiceImage, labels: dict[str, str]) -> tuple[list[str], Path | None]:
    """The project's Compose files, and the one that can keep the good image."""
    files = [name for name in labels.get("com.docker.compose.project.config_files", "").split(",") if name]
    return files, Path(lever.override) if lever.override else override_beside(files)


async def override_problems(world: World, lever: ServiceImage) -> list[Problem]:
    """Why no file would keep the next `docker compose up` on the good image. Raises Halt."""
    slots = await world.ask(lever, lever.slots)
    files, file = _override(lever, slots[0].pattern["Config"]["Labels"])
    if not files and not lever.override:
        return []  # not made by `docker compose up`
    here = f"Compose project {lever.project}"
    if file is None:
        found = f"uses {', '.join(files)}, so the next `docker compose up` after a rollback brings the bad version back"
        return [Problem(here, found, "name a further file among them as `override`")]
    if lever.override and str(file) not in files:
        return [Problem(here, f"uses {', '.join(files)}, and not {file}", f"add -f {file} as the last of them")]
    return await world.check_access(ComposeOverride(file=file, service=lever.service), within=lever.patience)


async def _remembered(
    world: World, lever: ServiceImage, labels: dict[str, str], image: str
) -> tuple[tuple[Move, ...], tuple[str, ...]]:
    files, file = _override(lever, labels)
    if not files and not lever.override:
        return (), ()  # not made by `docker compose up`: there is no next one
    if file is not None and (lever.override or file.parent.is_dir()):
        override = ComposeOverride(file=file, service=lever.service)
        try:
            pinned = f"{file} keeps {lever.service} at {image}: remove it before you deploy another version"
            unread = "" if lever.override else "; `docker compose -f` does not read it"
            was = await world.read(override)
            await world.ask(override, lambda local: override.prepare(local, image))
            return (Move(lever=override, was=was, to=image),), (pinned + unread,)
        except Halt as halt:
            why = str(halt)
    else:
        why = f"the project's files are {', '.join(files) or 'unknown'}: name a file of ours among them as `override`"
    return (), (f"the next `docker compose up` of {lever.project} brings the bad version back: {why}",)
