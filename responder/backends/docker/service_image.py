"""Containers of a Compose service on one Docker Engine, replaced so that the old one can be restored."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field, JsonValue

from foundation.durations import Duration
from responder.backends.docker.client import Docker, Object, all_of
from responder.backends.docker.containers import (
    EXECUTION,
    FILES,
    ORIGINAL,
    REPLACES,
    config_like,
    endpoints_of,
    image_name_of,
    image_of,
    labels_of,
    restored_from,
)
from responder.backends.docker.kept_containers import create_next, injected, put_away, reference, volume_sources
from responder.backends.docker.rights import rights_problems
from responder.backends.docker.shared_namespaces import Sharer, require_hosts
from responder.backends.docker.slots import COMPOSE, Slot, slots_of
from responder.backends.images import digest_of, references_of, repository_of, tag_of
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.errors import StepFailed

STOPPED_AT_ONCE = 10
"""Containers of one batch that stop at the same time."""


class ServiceImage(Resource[Docker, Any]):
    """The image of one container of a Compose service. Its value is the image ID, never a tag."""

    resource: Literal["service_image"] = "service_image"
    project: str = Field(min_length=1, description="Compose project")
    service: str = Field(min_length=1, description="Service in the project")
    number: int | None = Field(default=None, ge=1, description="Set by the responder: which of its containers")
    within: Duration = Field(default=120.0, gt=0, description="Deadline for a new container to become healthy")
    min_uptime: Duration = Field(default=3.0, description="Uptime that counts as healthy without a HEALTHCHECK")
    override: str | None = Field(
        default=None,
        pattern="^/",
        description="Compose file of the project, written by the responder, that keeps the good image",
    )
    wait_for: tuple[int, ...] = Field(default=(), description="Set by the responder: what must be healthy then")
    mark: str = Field(default="", description="Set by the responder: the execution, for the labels")

    shared_by: tuple[Sharer, ...] = Field(
        default=(), description="Set by the responder: containers that share its namespaces, recreated with it"
    )
    ports: dict[str, tuple[dict[str, str], ...]] = Field(
        default_factory=dict, description="Set by the responder: host ports that the engine chose, which stay"
    )
    stop_together: tuple[int, ...] = Field(
        default=(), description="Set by the responder: containers without traffic, stopped at the same time"
    )
    stopped: dict[int, str] = Field(
        default_factory=dict, description="Set by the responder: images of stopped containers, for an exact revert"
    )
    stop_within: Duration = Field(default=10.0, description="Set by the responder: how long it may take to end")

    @property
    def timeout(self) -> float:
        return 80.0 + self.stop_within

    @property
    def converge_timeout(self) -> float:
        return self.within

    async def slots(self, docker: Docker, *, kept: bool = False) -> list[Slot]:
        """The containers of the service, by number. Raises StepFailed if there are none."""
        slots = await slots_of(docker, self.project, self.service, self.number, kept=kept)
        if not slots:
            raise StepFailed(f"{self.project}/{self.service} has no container")
        return slots

    async def _slot(self, docker: Docker) -> Slot:
        return (await self.slots(docker))[0]

    async def read(self, docker: Docker) -> JsonValue:
        return _value(await self._slot(docker))

    def same(self, found: Any, value: Any) -> bool:
        return bool(found["image"] == value["image"])

    async def write(self, docker: Docker, value: Any, *, expected: JsonValue) -> None:
        slot = (await self.slots(docker, kept=True))[0]
        self.must_be(_value(slot), expected, value)
        if slot.current is None or image_of(slot.current) != value["image"]:
            await self._replace(docker, slot, value)
            slot = (await self.slots(docker, kept=True))[0]
        elif not slot.current["State"]["Running"] and not self._stays_stopped(slot, value):
            await docker.start(slot.name)
            slot = (await self.slots(docker, kept=True))[0]
        if slot.current is not None:
            replaced = {container["Id"] for container in slot.before} | {labels_of(slot.current).get(REPLACES, "")}
            host = slot.current
            await all_of(*(sharer.rejoin(docker, host, replaced, self.mark) for sharer in self.shared_by))
        await self._others(docker, value, run=True)
        await put_away(docker, slot, f"{self.project}/{self.service}", self.mark)

    async def _replace(self, docker: Docker, slot: Slot, value: Any) -> None:
        """A crash may follow any line; the containers that exist by then show where to continue."""
        pattern, old = slot.pattern, slot.current
        new = await self._stand_in(docker, slot, value)
        joined = new["NetworkSettings"]["Networks"]
        for network, endpoint in endpoints_of(pattern).items():
            if network not in joined:
                await docker.join(new["Id"], network, endpoint)
        every = (*([old] if old else ()), *slot.before)
        running = [c["Id"] for c in every if c["State"]["Running"] and c["Id"] != new["Id"]]
        stops = (docker.stop(container, within=slot.stops_within) for container in running)
        await all_of(*stops, self._others(docker, value, run=False))
        if old is not None:
            await docker.rename(old["Id"], slot.named("was", old))
        await docker.rename(new["Id"], slot.name)
        if not self._stays_stopped(slot, value):
            await docker.start(slot.name)

    def _stays_stopped(self, slot: Slot, value: Any) -> bool:
        return bool(self.stopped.get(slot.number) == value["image"])

    async def _stand_in(self, docker: Docker, slot: Slot, value: Any) -> Object:
        """The container to start: the one replaced earlier, its copy, or a new one with the current settings."""
        pattern = slot.pattern
        replaced = labels_of(pattern).get(REPLACES)
        for container in slot.before:
            if container["Id"] in (pattern["Id"], replaced) and image_of(container) == value["image"]:
                return container
        files = await injected(docker, pattern)
        return await create_next(docker, slot, await self._body(docker, slot, value, files), files)

    async def _body(self, docker: Docker, slot: Slot, value: Any, files: list[str]) -> Object:
        pattern, networks = slot.pattern, endpoints_of(slot.pattern)
        for copy in slot.kept:
            if labels_of(copy)[ORIGINAL] == labels_of(pattern).get(REPLACES) and image_of(copy) == value["image"]:
                image = await reference(docker, copy)
                return self._on_ports(restored_from(copy, image, pattern, networks=networks, mark=self.mark))
        if await docker.image(value["image"]) is None:
            raise StepFailed(
                f"the image {value['name']} ({value['image'][:19]}) no longer exists on this host: was it pruned?"
            )
        # By name, so that people see the version; by ID if the name points to another image now.
        named = await docker.image(value["name"])
        name = value["name"] if named and named["Id"] == value["image"] else value["image"]
        its_image = await docker.image(image_of(pattern))
        sources = await volume_sources(docker, pattern)
        config = config_like(pattern, its_image, name, networks=networks, sources=sources)
        ours = {REPLACES: pattern["Id"], FILES: json.dumps(files), EXECUTION: self.mark}
        config["Labels"] |= {**ours, f"{COMPOSE}.image": value["image"]}
        return self._on_ports(config)

    def _on_ports(self, config: Object) -> Object:
        host = config["HostConfig"]
        bound = {**(host.get("PortBindings") or {}), **self.model_dump()["ports"]}
        return {**config, "HostConfig": {**host, "PortBindings": bound}} if self.ports else config

    async def _others(self, docker: Docker, value: Any, *, run: bool) -> None:
        """Stops the other containers that will be replaced; or, to `run`, starts those that already have the image."""
        every = await self.model_copy(update={"number": None}).slots(docker) if self.stop_together else []
        turn = asyncio.Semaphore(STOPPED_AT_ONCE)

        async def switch(container: Object, slot: Slot) -> None:
            async with turn:
                if run:
                    await docker.start(container["Id"])
                else:
                    await docker.stop(container["Id"], within=slot.stops_within)

        found = [(slot.current, slot) for slot in every if slot.number in self.stop_together and slot.current]
        due = [(c, s) for c, s in found if (image_of(c) == value["image"]) == run and c["State"]["Running"] != run]
        await all_of(*(switch(container, slot) for container, slot in due if slot.number != self.number))

    async def converged(self, docker: Docker, value: Any) -> bool:
        if not self.same(await self.read(docker), value):
            return False
        resource = self.model_copy(update={"number": None})
        numbers = {self.number, *self.wait_for}
        for slot in await resource.slots(docker):
            if slot.number == self.number and not slot.tidy:
                return False
            runs = slot.number in self.stop_together and slot.current and image_of(slot.current) == value["image"]
            counts = (slot.number in numbers or runs) and not self._stays_stopped(slot, value)
            if counts and not await self.is_well(docker, slot, healthy=slot.number in self.wait_for):
                return False
        return True

    async def assist(self, docker: Docker, value: Any) -> None:
        """Removes containers that a replica created here after it lost its lease."""
        for container in (await self._slot(docker)).next:
            await docker.remove(container["Id"])

    async def is_well(self, docker: Docker, slot: Slot, *, healthy: bool = True) -> bool:
        """Whether it runs and, if required, is healthy. Raises StepFailed if waiting cannot help."""
        if slot.current is None:
            return False
        state = slot.current["State"]
        if state["Status"] in ("exited", "dead") or state.get("Restarting"):
            output = await docker.log_tail(slot.current["Id"])
            raise StepFailed(f"container {slot.name} exited with {state['ExitCode']}: {output or '(no output)'}")
        if not state["Running"] or not healthy:
            return bool(state["Running"])
        if (health := state.get("Health")) and health["Status"] != "none":
            if health["Status"] == "unhealthy":
                last = health["Log"][-1]["Output"].strip() if health.get("Log") else "(no output)"
                raise StepFailed(f"container {slot.name} is unhealthy: {last}")
            return bool(health["Status"] == "healthy")
        started = datetime.fromisoformat(state["StartedAt"][:19] + "+00:00")
        return (datetime.now(UTC) - started).total_seconds() >= self.min_uptime

    async def value_of(self, docker: Docker, version: str, artifact: str) -> JsonValue:
        repository = repository_of(image_name_of((await self._slot(docker)).pattern))
        names, why = references_of(repository, version, artifact), ""
        if found := await _find(docker, names, artifact):
            return found
        for name in names:
            if repository_of(name):
                try:
                    await docker.pull(name)
                except StepFailed as failure:
                    why = str(failure)
                    continue
                if found := await _find(docker, [name], artifact):
                    return found
                why = f"{name} now refers to another image"
        looked = ", ".join(names) or "nothing: neither an artifact nor a repository is known"
        raise StepFailed(
            f"the image of {version} is not on this host and cannot be pulled; looked for {looked} {why}".strip()
        )

    async def runs(self, docker: Docker, found: Any, version: str, artifact: str) -> bool:
        if tag_of(found["name"]) == version and not digest_of(artifact):
            return True
        known = await _find(docker, references_of(repository_of(found["name"]), version, artifact), artifact)
        return known is not None and self.same(found, known)

    async def version_of(self, docker: Docker, found: Any) -> tuple[str, str]:
        return (tag_of(found["name"]), found["image"]) if repository_of(found["name"]) else ("", "")

    async def lasting(self, docker: Docker, value: Any) -> str:
        """The most stable reference of the image for a file: its digest, else its tag, else its ID.

        Its ID if Compose builds the service: `up --build` would give the tag to the current source code.
        """
        current = await docker.image(image_of((await self._slot(docker)).pattern))
        if any(label.startswith(f"{COMPOSE}.") for label in ((current or {}).get("Config") or {}).get("Labels") or ()):
            return str(value["image"])
        found = await docker.image(value["image"])
        digests = (found or {}).get("RepoDigests") or ()
        repository = repository_of(value["name"])
        return str(next((d for d in digests if repository in ("", repository_of(d))), value["name"]))

    async def preflight(self, docker: Docker, value: Any) -> tuple[str, ...]:
        for slot in await self.slots(docker):
            await require_hosts(docker, slot.pattern)
            if "com.docker.swarm.service.id" in slot.pattern["Config"]["Labels"]:
                raise StepFailed(f"{slot.name} belongs to Swarm, which would restore the bad version")
            if slot.pattern["HostConfig"].get("AutoRemove"):
                raise StepFailed(f"{slot.name} runs with --rm: stopping it would delete it and its anonymous volumes")
        return ()

    async def check_access(self, docker: Docker) -> list[Problem]:
        await self.preflight(docker, None)
        return await rights_problems(docker)

    def describe(self, value: Any) -> str:
        return f"{value['name']} ({digest_of(value['image'])[7:19]})"

    def __str__(self) -> str:
        return f"image of {self.project}-{self.service}{'' if self.number is None else f'-{self.number}'}"


def _value(slot: Slot) -> dict[str, JsonValue]:
    return {"image": image_of(slot.pattern), "name": image_name_of(slot.pattern)}


async def _find(docker: Docker, names: list[str], artifact: str) -> dict[str, JsonValue] | None:
    """The image of a version if it is on this host; a tag that was moved since does not count."""
    digest = digest_of(artifact)
    for name in names:
        found = await docker.image(name)
        known = (found["Id"], *map(digest_of, found.get("RepoDigests") or ())) if found else ()
        if found and (not digest or digest in known):
            named = next(iter(found.get("RepoTags") or found.get("RepoDigests") or ()), found["Id"])
            return {"image": found["Id"], "name": name if repository_of(name) else named}
    return None
