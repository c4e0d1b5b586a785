"""Containers of a Compose service on one Docker Engine, replaced so that the old one can always be put back."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from responder.clients.docker import Docker, Object
from responder.durations import Duration
from responder.errors import Halt
from responder.images import digest_of, repository_of, tag_of
from responder.levers.containers import config_like
from responder.levers.lever import Lever

_COMPOSE = "com.docker.compose"
REPLACES = "io.rollback-responder.replaces"
"""Label of a container that we made: the id of the one that it stands for. An existing one cannot be given labels."""


@dataclass
class Slot:
    """The place of one container of the service: what has its name, and what waits beside it."""

    name: str
    number: int
    current: Object | None = None
    kept: list[Object] = field(default_factory=list)  # stopped and renamed by us, the latest last
    next: list[Object] = field(default_factory=list)  # made by us, and not yet in place

    @property
    def pattern(self) -> Object:
        """The container whose settings count: between two renames it is the one just taken out."""
        found = self.current or (self.kept[-1] if self.kept else None)
        if found is None:
            raise Halt(f"there is no container {self.name}")
        return found

    @property
    def stops_within(self) -> float:
        """Seconds from TERM to KILL, as the container wants it; 10 are the Engine's default."""
        return float(self.pattern["Config"].get("StopTimeout") or 10)


class ServiceImage(Lever):
    """The image that one container of a Compose service is made from. Its value is the image's ID, never a tag."""

    client: ClassVar[type] = Docker

    lever: Literal["service_image"] = "service_image"
    project: str = Field(min_length=1, description="Compose project")
    service: str = Field(min_length=1, description="Service in it")
    number: int | None = Field(default=None, ge=1, description="Set by the responder: which of its containers")
    within: Duration = Field(default=120.0, gt=0, description="Deadline until a new container is healthy")
    min_uptime: Duration = Field(default=3.0, description="Counts as healthy after that long without a HEALTHCHECK")
    override: str | None = Field(
        default=None,
        pattern="^/",
        description="Compose file of the responder's own, among those of the project, that keeps the good image",
    )
    wait_for: tuple[int, ...] = Field(default=(), description="Set by the responder: what must be healthy then")
    mark: str = Field(default="", description="Set by the responder: the execution, for the labels")

    stop_within: Duration = Field(default=10.0, description="Set by the responder: how long it may take to end")

    @property
    def patience(self) -> float:
        return 80.0 + self.stop_within

    @property
    def settles_within(self) -> float:
        return self.within

    async def slots(self, docker: Docker) -> list[Slot]:
        """The service's containers, by number. Raises Halt where there are none."""
        labels = {f"{_COMPOSE}.project": self.project, f"{_COMPOSE}.service": self.service}
        slots: dict[str, Slot] = {}
        for one in await docker.containers({**labels, f"{_COMPOSE}.oneoff": "False"}):
            told = one["Config"]["Labels"]
            number = int(told.get(f"{_COMPOSE}.container-number", 1))
            if self.number not in (None, number):
                continue
            name, role = _parts(one["Name"].lstrip("/"))
            slot = slots.setdefault(name, Slot(name, number))
            match role:
                case "was":
                    slot.kept.append(one)
                case "next":
                    slot.next.append(one)
                case _:
                    slot.current = one
        for slot in slots.values():
            slot.kept.sort(key=lambda c: str(c["State"].get("FinishedAt", "")))
        if not slots:
            raise Halt(f"there is no container of {self.project}/{self.service}")
        return sorted(slots.values(), key=lambda slot: slot.number)

    async def _slot(self, docker: Docker) -> Slot:
        return (await self.slots(docker))[0]

    async def read(self, docker: Docker) -> JsonValue:
        return _value(await self._slot(docker))

    def same(self, found: Any, value: Any) -> bool:
        return bool(found["image"] == value["image"])

    async def write(self, docker: Docker, value: Any, *, was: JsonValue) -> None:
        slot = await self._slot(docker)
        self.must_be(_value(slot), was, value)
        if slot.current is None or slot.current["Image"] != value["image"]:
            await self._replace(docker, slot, value)
        elif not slot.current["State"]["Running"]:
            await docker.start(slot.name)

    async def _replace(self, docker: Docker, slot: Slot, value: Any) -> None:
        """Every line may be the last one before a crash: what is there by then tells where to go on."""
        pattern, old = slot.pattern, slot.current
        new = await self._stand_in(docker, slot, value)
        joined = new["NetworkSettings"]["Networks"]
        for network, endpoint in _endpoints(pattern).items():
            if network not in joined:
                await docker.join(new["Id"], network, endpoint)
        if old is not None:
            if old["State"]["Running"]:
                await docker.stop(old["Id"], within=slot.stops_within)
            # With `restart: always` it would come up again with the engine, beside the good one.
            await docker.set_restart_policy(old["Id"], {"Name": "no"})
            await docker.rename(old["Id"], f"{slot.name}_was_{old['Id'][:12]}")
        await docker.rename(new["Id"], slot.name)
        await docker.start(slot.name)

    async def _stand_in(self, docker: Docker, slot: Slot, value: Any) -> Object:
        """The container that takes the place: the very one that ours replaced, or a new one like the present."""
        pattern = slot.pattern
        for one in slot.kept:
            if one["Id"] == pattern["Config"]["Labels"].get(REPLACES) and one["Image"] == value["image"]:
                await docker.set_restart_policy(one["Id"], pattern["HostConfig"]["RestartPolicy"])
                return one
        for one in slot.next:
            if one["Image"] == value["image"] and one["Config"]["Labels"].get(REPLACES) == pattern["Id"]:
                return one
        image = await docker.image(value["image"])
        if image is None:
            raise Halt(f"the image {value['name']} ({value['image'][:19]}) is gone from this host: was it pruned?")
        # By its name, so that people see which version it is; by its ID where the name means another one by now.
        named = await docker.image(value["name"])
        name = value["name"] if named and named["Id"] == value["image"] else value["image"]
        config = config_like(pattern, await docker.image(pattern["Image"]), name, networks=_endpoints(pattern))
        told = {REPLACES: pattern["Id"], "io.rollback-responder.execution": self.mark}
        config["Labels"] |= {**told, f"{_COMPOSE}.image": value["image"]}
        for one in slot.next:  # of another version, made by an earlier try and never started: it has our name
            await docker.remove(one["Id"])
        made = await docker.create(f"{slot.name}_next_{pattern['Id'][:12]}", config)
        found = await docker.container(made)
        if found is None:
            raise Halt(f"the new container for {slot.name} vanished as soon as it was made")
        return found

    async def settled(self, docker: Docker, value: Any) -> bool:
        if not self.same(await self.read(docker), value):
            return False
        lever = self.model_copy(update={"number": None})
        wanted = {self.number, *self.wait_for}
        for slot in await lever.slots(docker):
            if slot.number in wanted and not await self.is_well(docker, slot, healthy=slot.number in self.wait_for):
                return False
        return True

    async def is_well(self, docker: Docker, slot: Slot, *, healthy: bool = True) -> bool:
        """Whether it runs, and where asked is healthy. Raises Halt where it will not be by waiting."""
        if slot.current is None:
            return False
        state = slot.current["State"]
        if state["Status"] in ("exited", "dead") or state.get("Restarting"):
            said = await docker.said(slot.current["Id"])
            raise Halt(f"container {slot.name} exited with {state['ExitCode']}: {said or '(it said nothing)'}")
        if not state["Running"] or not healthy:
            return bool(state["Running"])
        if (health := state.get("Health")) and health["Status"] != "none":
            if health["Status"] == "unhealthy":
                last = health["Log"][-1]["Output"].strip() if health.get("Log") else "(no output)"
                raise Halt(f"container {slot.name} is unhealthy: {last}")
            return bool(health["Status"] == "healthy")
        started = datetime.fromisoformat(state["StartedAt"][:19] + "+00:00")
        return (datetime.now(UTC) - started).total_seconds() >= self.min_uptime

    async def value_of(self, docker: Docker, version: str, artifact: str) -> JsonValue:
        repository = repository_of((await self._slot(docker)).pattern["Config"]["Image"])
        names, why = _names(repository, version, artifact), ""
        if found := await _find(docker, names, artifact):
            return found
        for name in names:
            if repository_of(name):
                try:
                    await docker.pull(name)
                except Halt as halt:
                    why = str(halt)
                    continue
                if found := await _find(docker, [name], artifact):
                    return found
                why = f"{name} is another image by now"
        looked = ", ".join(names) or "nothing: neither an artifact nor a repository is known"
        raise Halt(f"the image of {version} is neither on this host nor to be had; looked for {looked} {why}".strip())

    async def runs(self, docker: Docker, found: Any, version: str, artifact: str) -> bool:
        if tag_of(found["name"]) == version and not digest_of(artifact):
            return True
        known = await _find(docker, _names(repository_of(found["name"]), version, artifact), artifact)
        return known is not None and self.same(found, known)

    async def lasting(self, docker: Docker, value: Any) -> str:
        """How a file names the image so that it means the same tomorrow: by digest, else by tag, else by its ID."""
        found = await docker.image(value["image"])
        digests = (found or {}).get("RepoDigests") or ()
        repository = repository_of(value["name"])
        return str(next((d for d in digests if repository in ("", repository_of(d))), value["name"]))

    async def prepare(self, docker: Docker, value: Any) -> tuple[str, ...]:
        for slot in await self.slots(docker):
            if "com.docker.swarm.service.id" in slot.pattern["Config"]["Labels"]:
                raise Halt(f"{slot.name} belongs to Swarm, which would bring the bad version back")
        return ()

    def tell(self, value: Any) -> str:
        return f"{value['name']} ({digest_of(value['image'])[7:19]})"

    def __str__(self) -> str:
        return f"image of {self.project}-{self.service}{'' if self.number is None else f'-{self.number}'}"


def _parts(name: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.+)_(was|next)_[0-9a-f]{12}", name)
    return (found[1], found[2]) if found else (name, "")


def _value(slot: Slot) -> dict[str, JsonValue]:
    return {"image": slot.pattern["Image"], "name": slot.pattern["Config"]["Image"]}


def _endpoints(container: Object) -> dict[str, Object]:
    """How it is reached in each of its networks, the first being the one that it was made with."""
    networks = container["NetworkSettings"]["Networks"]
    main = container["HostConfig"].get("NetworkMode")
    short = container["Id"][:12]
    return {
        name: {
            "Aliases": [alias for alias in endpoint.get("Aliases") or () if alias != short],
            "IPAMConfig": endpoint.get("IPAMConfig"),
            "Links": endpoint.get("Links"),
            "DriverOpts": endpoint.get("DriverOpts"),
        }
        for name, endpoint in sorted(networks.items(), key=lambda item: item[0] != main)
    }


def _names(repository: str, version: str, artifact: str) -> list[str]:
    """Where to look for a version, the surest first."""
    names = [artifact] if artifact else []
    if artifact.startswith("sha256:") and repository:
        names.append(f"{repository}@{artifact}")
    return [*names, f"{repository}:{version}"] if repository else names


async def _find(docker: Docker, names: list[str], artifact: str) -> dict[str, JsonValue] | None:
    """The image of a version, where it is on this host; a tag that was moved since is none."""
    digest = digest_of(artifact)
    for name in names:
        found = await docker.image(name)
        known = (found["Id"], *map(digest_of, found.get("RepoDigests") or ())) if found else ()
        if found and (not digest or digest in known):
            named = next(iter(found.get("RepoTags") or found.get("RepoDigests") or ()), found["Id"])
            return {"image": found["Id"], "name": name if repository_of(name) else named}
    return None
