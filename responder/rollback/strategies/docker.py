"""Common to all strategies for Compose services: one change per container, and an override file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from foundation.models import FrozenModel
from responder.backends.docker.compose_override import ComposeOverride, override_beside
from responder.backends.docker.containers import chosen_ports, labels_of
from responder.backends.docker.service_image import STOPPED_AT_ONCE, ServiceImage
from responder.backends.docker.shared_namespaces import Sharer, shared_with, sharers
from responder.backends.docker.slots import COMPOSE, Slot
from responder.backends.problems import Problem
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change
from responder.rollback.strategies.strategy import read_expecting, value_of
from responder.rollback.version_change import VersionChange


class ContainerChanges(FrozenModel):
    """The containers of one service, with their images before and after."""

    resources: tuple[ServiceImage, ...]
    before: tuple[Any, ...]
    after: Any
    last: tuple[Change, ...] = ()  # the override file that the next `docker compose up` reads
    notes: tuple[str, ...] = ()

    def changes(self, size: int) -> list[tuple[Change, ...]]:
        """Batches of at most `size` containers. The last change of a batch waits until the whole batch is healthy."""
        pairs = list(zip(self.resources, self.before, strict=True))
        batches = [pairs[at : at + size] for at in range(0, len(pairs), size)]
        return [tuple(self._batch(batch)) for batch in batches]

    def _batch(self, batch: list[tuple[ServiceImage, Any]]) -> list[Change]:
        numbers = tuple(resource.number for resource, _ in batch)
        last = len(batch) - 1
        return [
            Change(
                resource=resource.model_copy(update={"wait_for": numbers if i == last else ()}),
                before=before,
                after=self.after,
            )
            for i, (resource, before) in enumerate(batch)
        ]


async def each_container(gateway: Gateway, resource: ServiceImage) -> list[ServiceImage]:
    """The resource of each container of the service."""
    slots = await gateway.ask(resource, resource.slots)
    return [resource.model_copy(update={"number": slot.number, "stop_within": slot.stops_within}) for slot in slots]


async def _as_it_is(gateway: Gateway, resource: ServiceImage, slot: Slot) -> tuple[ServiceImage, list[str]]:
    """The resource of one container with what depends on it and is not in its settings, and notes about that."""
    ids = (slot.pattern["Id"],)
    own, notes = [], []
    for container in await gateway.ask(resource, lambda docker: sharers(docker, ids)):
        if sharer := Sharer.of(container):
            own.append(sharer)
        does = "is recreated with it" if sharer else "loses it: recreate it afterwards"
        name, shared = container["Name"].lstrip("/"), shared_with(container, ids)
        notes.append(f"{name} shares the {shared} of {slot.name} and {does}")
    ports = chosen_ports(slot.pattern)
    if published := sorted({binding["HostPort"] for bindings in ports.values() for binding in bindings}):
        notes.append(f"{slot.name} keeps host port {', '.join(published)}, which the engine chose")
    found = {port: tuple(bindings) for port, bindings in ports.items()}
    return resource.model_copy(update={"shared_by": tuple(own), "ports": found}), notes


async def _dependents(gateway: Gateway, resource: ServiceImage) -> list[str]:
    """Notes about the containers that `docker compose up` would restart after it recreated this service."""
    project = {f"{COMPOSE}.project": resource.project}
    notes = []
    for container in await gateway.ask(resource, lambda docker: docker.containers(project)):
        depends = labels_of(container).get(f"{COMPOSE}.depends_on", "").split(",")
        if any(d.startswith(f"{resource.service}:") and d.endswith(":true") for d in depends):
            name = container["Name"].lstrip("/")
            notes.append(f"{name} depends on {resource.service} with `restart: true`: restart it afterwards")
    return sorted(notes)


def _runs(slot: Slot) -> bool:
    """Whether it runs, or is about to: a container that crashes again and again is not stopped."""
    state = slot.current["State"] if slot.current else {}
    return bool(state.get("Running") or state.get("Restarting"))


def _stay_stopped(resources: list[ServiceImage], slots: list[Slot], before: list[Any], to: Any) -> list[ServiceImage]:
    """A rollback starts stopped containers; a revert leaves those of the failed version stopped."""
    pairs = [(slot, value["image"]) for slot, value in zip(slots, before, strict=True) if not _runs(slot)]
    stopped = {slot.number: image for slot, image in pairs if image != to["image"]}
    return [resource.model_copy(update={"stopped": stopped}) for resource in resources]


def _stopped_together(resources: list[ServiceImage], slots: list[Slot], before: list[Any]) -> list[ServiceImage]:
    """Containers without traffic stop at the same time, unless a revert would not be exact.

    That is if they run different images, and for those whose host port the engine would choose again.
    """
    pairs = zip(slots, resources, strict=True)
    running = [slot for slot, item in pairs if _runs(slot) and not item.ports]
    if len(running) < 2 or len({value["image"] for value in before}) > 1:
        return resources
    batches = math.ceil(len(running) / STOPPED_AT_ONCE)
    within = max(slot.stops_within for slot in running) * batches
    update = {"stop_together": tuple(slot.number for slot in running), "stop_within": within}
    return [resource.model_copy(update=update) for resource in resources]


async def containers(
    gateway: Gateway, resource: ServiceImage, version: VersionChange, *, running: bool = True
) -> ContainerChanges:
    """The containers with their images before and after. Raises StepFailed."""
    slots = await gateway.ask(resource, resource.slots)
    resources = await each_container(gateway, resource.model_copy(update={"mark": version.execution}))
    pairs = [await _as_it_is(gateway, item, slot) for item, slot in zip(resources, slots, strict=True)]
    resources, shared = [item for item, _ in pairs], [note for _, found in pairs for note in found]
    shared += await _dependents(gateway, resource)
    before: list[Any] = [
        await (read_expecting(gateway, item, version) if running else gateway.read(item)) for item in resources
    ]
    if not running:
        resources = _stopped_together(resources, slots, before)
    to: Any
    to, notes = await value_of(gateway, resource, version)
    resources = _stay_stopped(resources, slots, before, to)
    labels = labels_of(slots[0].pattern)
    last, last_notes = await _override_change(
        gateway, resource, labels, await gateway.ask(resource, lambda docker: resource.lasting(docker, to))
    )
    return ContainerChanges(
        resources=tuple(resources), before=tuple(before), after=to, last=last, notes=(*notes, *shared, *last_notes)
    )


def _override(resource: ServiceImage, labels: dict[str, str]) -> tuple[list[str], Path | None]:
    """The project's Compose files, and the one that can hold the restored image."""
    files = [name for name in labels.get("com.docker.compose.project.config_files", "").split(",") if name]
    return files, Path(resource.override) if resource.override else override_beside(files)


async def override_problems(gateway: Gateway, resource: ServiceImage) -> list[Problem]:
    """Why the next `docker compose up` would not use the restored image. Raises StepFailed."""
    slots = await gateway.ask(resource, resource.slots)
    files, file = _override(resource, slots[0].pattern["Config"]["Labels"])
    if not files and not resource.override:
        return []  # not made by `docker compose up`
    here = f"Compose project {resource.project}"
    if file is None:
        found = f"uses {', '.join(files)}, so the next `docker compose up` after a rollback restores the bad version"
        return [Problem(here, found, "add another file to the project and configure it as `override`")]
    if resource.override and str(file) not in files:
        return [Problem(here, f"uses {', '.join(files)}, and not {file}", f"add -f {file} as the last of them")]
    override = ComposeOverride(file=file, service=resource.service, required=bool(resource.override))
    return await gateway.check_access(override, within=resource.timeout)


async def _override_change(
    gateway: Gateway, resource: ServiceImage, labels: dict[str, str], image: str
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    files, file = _override(resource, labels)
    if not files and not resource.override:
        return (), ()  # not made by `docker compose up`: there is no next one
    if file is None or not (resource.override or file.parent.is_dir()):
        why = f"the project's files are {', '.join(files) or 'unknown'}: add a file for the responder"
        return (), (f"{_restores_bad(resource)}: {why} and configure it as `override`",)
    required = bool(resource.override) and str(file) in files
    override = ComposeOverride(file=file, service=resource.service, required=required)
    try:
        before = await gateway.read(override)
        await gateway.ask(override, lambda local: override.preflight(local, image))
    except StepFailed as failure:
        return (), (f"{_restores_bad(resource)}: {failure}",)
    note = f"{file} keeps {resource.service} at {image}: remove it before you deploy another version"
    if not required:
        note += f"; only `-f {file}` reads it" if resource.override else "; `docker compose -f` does not read it"
    if image.startswith("sha256:"):
        note += "; `up --build` fails until then"
    return (Change(resource=override, before=before, after=image),), (note,)


def _restores_bad(resource: ServiceImage) -> str:
    return f"the next `docker compose up` of {resource.project} restores the bad version"
