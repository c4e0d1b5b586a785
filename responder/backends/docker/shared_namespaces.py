"""Containers that live in the network, PID or IPC namespace of another one, as with `network_mode: service:backend`.

They name that container by its ID. Once it is replaced they are cut off and cannot be started again.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from foundation.models import FrozenModel
from responder.backends.docker.client import Docker, Object
from responder.backends.docker.containers import (
    EXECUTION,
    FILES,
    KEPT,
    REPLACES,
    config_like,
    endpoints_of,
    image_labels,
    labels_of,
)
from responder.backends.docker.kept_containers import create_next, injected, put_away, reference, volume_sources
from responder.backends.docker.slots import COMPOSE, Slot, slots_of
from responder.errors import StepFailed

_MODES = {"NetworkMode": "network", "PidMode": "PID namespace", "IpcMode": "IPC namespace"}
_PREFIX = "container:"


def hosts_of(container: Object) -> dict[str, str]:
    """The container ID in each namespace setting of a container that shares those of another one."""
    modes = {key: str(container["HostConfig"].get(key) or "") for key in _MODES}
    return {key: mode.removeprefix(_PREFIX) for key, mode in modes.items() if mode.startswith(_PREFIX)}


def shared_with(container: Object, ids: Collection[str]) -> str:
    """What it shares with the containers of these IDs, such as `network`; empty if nothing."""
    return " and ".join(_MODES[key] for key, host in hosts_of(container).items() if host in ids)


async def sharers(docker: Docker, ids: Collection[str]) -> list[Object]:
    """All containers that share a namespace with one of these, by name; no kept copies, which never start."""
    every = await docker.containers({})
    found = [container for container in every if shared_with(container, ids) and KEPT not in labels_of(container)]
    return sorted(found, key=lambda container: str(container["Name"]))


async def require_hosts(docker: Docker, container: Object) -> None:
    """Raises StepFailed if a container whose namespace it shares does not run: no replacement could start."""
    for key, host in hosts_of(container).items():
        found = await docker.container(host)
        if found is None or not found["State"]["Running"]:
            name, state = container["Name"].lstrip("/"), found["State"]["Status"] if found else "removed"
            raise StepFailed(
                f"{name} shares the {_MODES[key]} of container {host[:12]}, which is {state}; expected running: "
                f"recreate {name} with `docker compose up -d`"
            )


class Sharer(FrozenModel):
    """A Compose container that shares namespaces with a container that is replaced."""

    project: str
    service: str
    number: int
    running: bool = True  # whether it must run afterwards

    @classmethod
    def of(cls, container: Object) -> Sharer | None:
        """None for a container of `docker run` or `docker compose run`, which the responder leaves alone."""
        labels = labels_of(container)
        if not labels.get(f"{COMPOSE}.service") or labels.get(f"{COMPOSE}.oneoff") == "True":
            return None
        return cls(
            project=labels[f"{COMPOSE}.project"],
            service=labels[f"{COMPOSE}.service"],
            number=int(labels.get(f"{COMPOSE}.container-number", 1)),
            running=container["State"]["Running"],
        )

    async def rejoin(self, docker: Docker, host: Object, replaced: Collection[str], mark: str) -> None:
        """Recreates the container in the namespaces of `host`, unless it is there. Can be called again after a crash.

        `replaced`: IDs of the containers that `host` replaced.
        """
        for slot in await slots_of(docker, self.project, self.service, self.number):
            known = [*([slot.current] if slot.current else ()), *slot.next, *slot.before]
            joined = next((container for container in known if shared_with(container, (host["Id"],))), None)
            if joined is None:
                if not shared_with(slot.pattern, replaced):
                    continue  # somebody recreated it elsewhere since the plan was made
                joined = await _joined(docker, slot, host, replaced, mark)
            await self._switch(docker, slot, joined, host)
        for slot in await slots_of(docker, self.project, self.service, self.number, kept=True):
            await put_away(docker, slot, f"{self.project}/{self.service}", mark)

    async def _switch(self, docker: Docker, slot: Slot, joined: Object, host: Object) -> None:
        old = slot.current
        if old and old["Id"] != joined["Id"]:
            if old["State"]["Running"]:
                await docker.stop(old["Id"], within=slot.stops_within)
            await docker.rename(old["Id"], slot.named("was", old))
        if joined["Name"].lstrip("/") != slot.name:
            await docker.rename(joined["Id"], slot.name)
        if not self.running:
            return
        if joined["State"]["Running"] and _started(joined) < _started(host):
            await docker.stop(joined["Id"], within=slot.stops_within)  # its namespace ended with the host's last run
        await docker.start(joined["Id"])


async def _joined(docker: Docker, slot: Slot, host: Object, replaced: Collection[str], mark: str) -> Object:
    """A new container like the one in the slot, in the namespaces of the host."""
    pattern, networks = slot.pattern, endpoints_of(slot.pattern)
    files = await injected(docker, pattern)
    image, sources = await docker.image(pattern["Image"]), await volume_sources(docker, pattern)
    body = config_like(pattern, image, await reference(docker, pattern), networks=networks, sources=sources)
    body["HostConfig"] |= {key: f"{_PREFIX}{host['Id']}" for key, at in hosts_of(pattern).items() if at in replaced}
    body["Labels"] |= {
        **image_labels(pattern),
        REPLACES: pattern["Id"],
        FILES: json.dumps(files),
        EXECUTION: mark,
    }
    made = await create_next(docker, slot, body, files)
    for network in list(networks)[1:]:
        await docker.join(made["Id"], network, networks[network])
    return made


def _started(container: Object) -> str:
    return str(container["State"].get("StartedAt", ""))
