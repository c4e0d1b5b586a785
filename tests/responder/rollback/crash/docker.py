"""Stages on a real Docker Engine: containers that are replaced one by one, and two colors behind a proxy's file."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from responder.backends.docker.client import Docker, DockerSettings
from responder.backends.host.client import Local
from responder.backends.resource import Resource
from tests.contents.engine import FILES, MAY_DIFFER, VERSION, contents
from tests.contents.files import tree
from tests.engine import Engine
from tests.parts import free_port
from tests.responder.rollback.crash.stages import Everything, RollbackScenario, shop

ENGINES: list[Engine] = []
"""The engine of this run, set by the fixture."""

_HEALTHY = [{"http": "http://shop/health"}]


def _stage(
    engine: Engine, rollback: dict[str, Any], rolled_back: dict[str, Any], pointer: Path | None = None
) -> RollbackScenario:
    docker = Docker(DockerSettings(host=engine.url))

    def outside() -> dict[str, Any]:
        # Everything that Compose sees: what it would start, restart or choose instead of the good version.
        found: dict[str, Any] = {
            name: (container["Image"], container["State"]) for name, container in engine.containers().items()
        }
        return {**found, **({"pointer": pointer.read_text().strip()} if pointer else {})}

    def written() -> Any:
        """The content of each path, even between two renames."""
        found = sorted(engine.containers().items(), key=lambda item: "_" not in item[0])
        places = {re.sub("_was_.*", "", name): container["Image"] for name, container in found if "_next_" not in name}
        return places, pointer.read_text() if pointer else ""

    return shop(
        rollback,
        _HEALTHY,
        outside=outside,
        rolled_back=rolled_back,
        everything=_everything(engine, pointer, [name for name in rolled_back if name != "pointer"]),
        stranger=lambda resource: _stranger(engine, docker, resource),
        clients={Docker: docker, Local: Local()},
        written=written,
        leave=docker.close,
    )


def _everything(engine: Engine, pointer: Path | None, containers: list[str]) -> Everything:
    def state() -> dict[str, Any]:
        return {**contents(engine), "files": tree(pointer.parent) if pointer else {}}

    changes = ["/files/live/content"]
    changes += [f"/containers/{name}/Config/{part}" for name in containers for part in VERSION]
    may_differ = {"/files/live/changed": "it is written anew"}
    may_differ |= {f"/containers/{name}/{part}": why for name in containers for part, why in MAY_DIFFER.items()}
    return Everything(state, changes, {**may_differ, **FILES})


def _stranger(engine: Engine, docker: Docker, resource: Resource) -> Awaitable[Any]:
    async def act() -> Any:
        fields = resource.model_dump()
        if fields["resource"] == "pointer_file":
            Path(fields["file"]).write_text("purple\n")
            return await resource.read(Local())
        name = f"shop-{fields['service']}-{fields['number']}"
        engine.call("DELETE", f"/containers/{name}", force="true")
        engine.compose(fields["service"], "shop:3", number=fields["number"], port=free_port())
        return await resource.read(docker)

    return act()


def _engine() -> Engine:
    ENGINES[0].clear()
    return ENGINES[0]


def rolling(directory: Path) -> RollbackScenario:
    engine = _engine()
    for number in (1, 2):
        engine.compose("backend", "plain:2", number=number, port=free_port())
    docker = {"project": "shop", "service": "backend", "min_uptime": "0s"}
    rollback = {"strategy": "rolling", "docker": docker, "batch_delay": "2s"}
    rollback["batch_healthy"] = [{"http": "http://batch/"}]
    good = ("plain:1", "running")
    return _stage(engine, rollback, {"shop-backend-1": good, "shop-backend-2": good})


def immediate(directory: Path) -> RollbackScenario:
    engine = _engine()
    engine.compose("backend", "plain:2", port=free_port())
    docker = {"project": "shop", "service": "backend", "min_uptime": "0s"}
    good = {"shop-backend-1": ("plain:1", "running")}
    return _stage(engine, {"strategy": "immediate", "docker": docker}, good)


def blue_green(directory: Path) -> RollbackScenario:
    engine, pointer = _engine(), directory / "live"
    engine.compose("blue", "plain:3", port=free_port())
    engine.compose("green", "plain:2", port=free_port())
    pointer.write_text("green\n")
    colors = {
        color: {
            "docker": {"project": "shop", "service": color, "min_uptime": "0s"},
            "ready": [{"http": "http://idle/health"}],
        }
        for color in ("blue", "green")
    }
    at = {"file": str(pointer), "restart": ["/bin/true"]}
    rollback = {"strategy": "blue_green", "pointer": at, "colors": colors, "ready_for": "0s"}
    good = {"shop-blue-1": ("plain:1", "running"), "pointer": "blue"}
    return _stage(engine, {**rollback, "ready_within": "3s"}, good, pointer)


STAGES = {"docker_immediate": immediate, "docker_rolling": rolling, "docker_blue_green": blue_green}
