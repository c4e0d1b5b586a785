"""All that a rollback of containers could change outside, for comparisons, and what may differ after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.engine import Engine

REPLACED: Mapping[str, str] = {
    "/Id": "identity of the container; its name stays",
    "/Created": "identity of the container",
    "/Image": "the version",
    "/Config/Image": "the version",
    "/Path": "the image has its own command",
    "/Args/*": "the image has its own command",
    "/Config/Healthcheck/*": "the image has its own defaults",
    "/Config/Hostname": "the short ID, unless it is set",
    "/Config/Env/VERSION=*": "of the image",
    "/Config/Env/CARTS=*": "of the image",
    "/Config/Labels/shop.*": "of the image",
    "/Config/Labels/com.docker.compose.image": "the version, which Compose compares",
    "/Config/Labels/io.rollback-responder.*": "of the responder, so that it can revert after a crash",
    "/State/*": "the run",
    "/RestartCount": "the run: a new container has not been restarted",
    "/ResolvConfPath": "file of the engine, below the ID",
    "/HostnamePath": "file of the engine, below the ID",
    "/HostsPath": "file of the engine, below the ID",
    "/LogPath": "file of the engine, below the ID",
    "/GraphDriver/*": "file of the engine, below the ID",
    "/NetworkSettings/Sandbox*": "identity of the run",
    "/NetworkSettings/Networks/*/EndpointID": "identity of the run",
    "/NetworkSettings/Networks/*/NetworkID": "set when a container first starts; the name stays",
    "/NetworkSettings/*IPAddress": "the engine assigns addresses that are not fixed",
    "/NetworkSettings/*MacAddress": "the engine derives it from the address, unless it is fixed",
    "/NetworkSettings/Networks/*/Aliases/????????????": "the engine adds the short ID",
    "/HostConfig/Binds*": "an unnamed volume is named now: the mounts are compared",
    "/HostConfig/Mounts*": "an unnamed volume is named now: the mounts are compared",
}
"""What may differ in `docker inspect` of a replaced container, and why. Everything else must be equal."""

_ALWAYS: Mapping[str, str] = {
    "/containers/*_kept_*": "a copy of the failed container, for study, which is never started",
    "/images/commit *": "the files of such a copy",
    "/volumes/*/CreatedAt": "the Engine reports when its directory was last mounted or changed",
}


def may_differ(*replaced: str) -> dict[str, str]:
    """What may differ in `outside` once these containers were replaced."""
    return {**_ALWAYS, **{f"/containers/{name}{path}": why for name in replaced for path, why in REPLACED.items()}}


def tree(value: Any) -> Any:
    """The value with its lists as mappings, so that order does not count: each element by what identifies it."""
    if isinstance(value, dict):
        return {key: tree(inner) for key, inner in value.items()}
    if not isinstance(value, list):
        return value
    names = [
        item.get("Destination", item.get("Target", n)) if isinstance(item, dict) else str(item)
        for n, item in enumerate(value)
    ]
    return {name: tree(item) for name, item in zip(names, value, strict=True)}


def outside(engine: Engine, directory: Path | None = None) -> dict[str, Any]:
    """Everything that the engine has, and the files of a directory. Health checks go on meanwhile."""
    names = [container["Names"][0].lstrip("/") for container in engine.call("GET", "/containers/json", all="true")]
    containers = {name: tree(engine.inspect(name)) for name in names}
    for container in containers.values():
        container["State"].pop("Health", None)
    images = {
        " ".join(image["RepoTags"] or ()) or f"commit {image['Id']}": image["Id"]
        for image in engine.call("GET", "/images/json")
    }
    found = sorted(directory.rglob("*")) if directory else []
    return {
        "containers": containers,
        "networks": {network["Id"]: tree(network) for network in engine.call("GET", "/networks")},
        "volumes": {volume["Name"]: tree(volume) for volume in engine.call("GET", "/volumes")["Volumes"] or ()},
        "images": {name.replace("<none>:<none>", f"commit {number}"): number for name, number in images.items()},
        "files": {str(file): file.read_text() for file in found if file.is_file()},
    }
