"""A new container like another one, but of another image. Pure."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def config_like(container: Object, its_image: Object | None, image: str, *, networks: dict[str, Object]) -> Object:
    """The body of `POST /containers/create` for what `docker inspect` says of the container and of its image.

    What the container has only because its image says so is left out: else the good image would run with the bad
    one's environment, command and health check.
    """
    config = dict(container["Config"])
    inherited: Object = (its_image or {}).get("Config") or {}
    for key in ("WorkingDir", "User", "StopSignal", "Shell", "Healthcheck", "OnBuild", "ArgsEscaped"):
        if config.get(key) == inherited.get(key):
            config.pop(key, None)
    if config.get("Entrypoint") == inherited.get("Entrypoint"):
        config.pop("Entrypoint", None)
        if config.get("Cmd") == inherited.get("Cmd"):
            config.pop("Cmd", None)
    config["Env"] = [one for one in config.get("Env") or () if one not in (inherited.get("Env") or ())]
    from_image = inherited.get("Labels") or {}
    config["Labels"] = {k: v for k, v in (config.get("Labels") or {}).items() if from_image.get(k) != v}
    bound = container["HostConfig"].get("PortBindings") or {}
    for key, used in (("Volumes", {}), ("ExposedPorts", bound)):
        left = {k: v for k, v in (config.get(key) or {}).items() if k in used or k not in (inherited.get(key) or {})}
        config[key] = left
    if config.get("Hostname") == container["Id"][:12]:
        config.pop("Hostname")
    config.pop("MacAddress", None)
    first = dict(list(networks.items())[:1])
    host = {**container["HostConfig"], "Binds": _binds(container)}
    return {**config, "Image": image, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": first}}


def _binds(container: Object) -> list[str]:
    """What is mounted by `Binds`, and the volumes without a name, which a new container would get anew and empty."""
    host = container["HostConfig"]
    binds = list(host.get("Binds") or ())
    named = {bind.split(":")[1] for bind in binds if ":" in bind} | {m["Target"] for m in host.get("Mounts") or ()}
    nameless = (m for m in container.get("Mounts") or () if m["Type"] == "volume" and m["Destination"] not in named)
    return [*binds, *(f"{m['Name']}:{m['Destination']}{'' if m.get('RW', True) else ':ro'}" for m in nameless)]
