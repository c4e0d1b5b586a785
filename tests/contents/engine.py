"""Everything on a Docker Engine: containers with their settings and files, networks, volumes and images."""

from __future__ import annotations

import re
from typing import Any

from tests.engine import Engine

VERSION = ("Image", "Env", "Labels/shop.*", "Labels/com.docker.compose.image")
"""Parts of the Config of a container that belong to its image."""

MAY_DIFFER = {
    "Config/Labels/io.rollback-responder.*": "which container it replaces",
    "Changes": "a new container begins with the files of its image",
    "HostConfig/Binds": "an unnamed volume is mounted by its name",
    "Mounts/~1scratch/Mode": "an unnamed volume is mounted by its name",
}
"""Parts of a replaced container, each with the reason."""

FILES = {
    "/containers/*_kept": "the replaced container is kept for study",
    "/images": "files that were written into it are kept as an image",
}

_CHOSEN = ("EndpointID", "NetworkID", "IPAddress", "Gateway", "DNSNames")
"""What the engine chooses when a container joins a network."""


def contents(engine: Engine) -> dict[str, Any]:
    """By name. The ID in the name of a kept container is left out."""
    every = engine.call("GET", "/containers/json", all="true")
    containers = [engine.inspect(container["Id"]) for container in every]
    return {
        "containers": {_named(container): _container(engine, container) for container in containers},
        "networks": {network["Name"]: _network(network) for network in engine.call("GET", "/networks")},
        "volumes": {volume["Name"]: _volume(volume) for volume in engine.call("GET", "/volumes")["Volumes"] or ()},
        "images": {image["Id"]: image["RepoTags"] for image in engine.call("GET", "/images/json")},
    }


def _named(container: dict[str, Any]) -> str:
    return re.sub("_[0-9a-f]{12}$", "", str(container["Name"]).lstrip("/"))


def _container(engine: Engine, found: dict[str, Any]) -> dict[str, Any]:
    config, networks = dict(found["Config"]), found["NetworkSettings"]["Networks"]
    if config["Hostname"] == found["Id"][:12]:
        del config["Hostname"]
    mounts = {mount["Destination"]: {**mount, "Source": ""} for mount in found["Mounts"]}
    return {
        "Config": config,
        "HostConfig": found["HostConfig"],
        "Mounts": mounts,
        "Networks": {name: _endpoint(found["Id"], endpoint) for name, endpoint in networks.items()},
        "Ports": found["NetworkSettings"]["Ports"],
        "Status": found["State"]["Status"],
        "Changes": _changes(engine, found["Id"]),
    }


def _endpoint(container: str, found: dict[str, Any]) -> dict[str, Any]:
    aliases = [alias for alias in found["Aliases"] or () if alias != container[:12]]
    return {**{name: value for name, value in found.items() if name not in _CHOSEN}, "Aliases": sorted(aliases)}


def _network(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "Containers"}


def _volume(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "CreatedAt"}  # the time of its directory


def _changes(engine: Engine, container: str) -> dict[str, str]:
    """The files in the writable layer that differ from the image, each with the kind of change."""
    found = engine.call("GET", f"/containers/{container}/changes") or ()
    return {change["Path"]: str(change["Kind"]) for change in found}
