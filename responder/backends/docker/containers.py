"""The body of `POST /containers/create` for a container that replaces another one. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from posixpath import dirname, normpath
from typing import Any

Object = dict[str, Any]

_OURS = "io.rollback-responder."
EXECUTION = f"{_OURS}execution"
"""Label of everything that the responder creates: the execution."""
REPLACES = f"{_OURS}replaces"
"""Label of a new container: the ID of the container that it replaces. Existing containers cannot be labeled."""
KEPT = f"{_OURS}kept"
"""Label of a copy that is kept for study: the Compose project and service that the original belonged to."""
ORIGINAL = f"{_OURS}original"
"""Label of a kept copy: the ID of the original."""
FILES = f"{_OURS}files"
"""Label: the paths, as JSON, of files that Compose copied into the container and a rollback carried over."""
_LABELS, _IMAGE, _NAME = f"{_OURS}labels", f"{_OURS}image", f"{_OURS}image-name"
_COMPOSE_PROJECT = "com.docker.compose.project"
_KEPT_PROJECT = "rollback-responder-kept"


def labels_of(container: Object) -> dict[str, str]:
    """The container's labels."""
    return dict(container["Config"].get("Labels") or {})


def image_of(container: Object) -> str:
    """The ID of its image. A container that runs on a commit names the image that the commit was made from."""
    return str(labels_of(container).get(_IMAGE) or container["Image"])


def image_name_of(container: Object) -> str:
    """The name of its image, as Compose or the user wrote it."""
    return str(labels_of(container).get(_NAME) or container["Config"]["Image"])


def image_labels(container: Object) -> dict[str, str]:
    """The labels that name the image that a commit was made from; empty if it does not run on a commit."""
    return {key: value for key, value in labels_of(container).items() if key in (_IMAGE, _NAME)}


def endpoints_of(container: Object) -> dict[str, Object]:
    """Its settings in each network; the first is the network that it was created with."""
    networks = container["NetworkSettings"]["Networks"]
    main = container["HostConfig"].get("NetworkMode")
    short = container["Id"][:12]
    return {
        name: {
            "Aliases": [alias for alias in endpoint.get("Aliases") or () if alias != short],
            "IPAMConfig": endpoint.get("IPAMConfig"),
            "Links": endpoint.get("Links"),
            "DriverOpts": endpoint.get("DriverOpts"),
            "GwPriority": endpoint.get("GwPriority"),
            "MacAddress": _own_mac_address(endpoint),
        }
        for name, endpoint in sorted(networks.items(), key=lambda item: item[0] != main)
    }


def _own_mac_address(endpoint: Object) -> str:
    """Its MAC address, unless the engine made it of the IP address: a fixed one would collide with the next user's."""
    mac = str(endpoint.get("MacAddress") or "")
    address = str(endpoint.get("IPAddress") or "")
    made = "02:42:" + ":".join(f"{int(part):02x}" for part in address.split(".")) if address.count(".") == 3 else ""
    return "" if mac == made else mac


def chosen_ports(container: Object) -> dict[str, list[dict[str, str]]]:
    """The current host ports of those port bindings for which the engine chose a port, by container port.

    Empty if the container does not run: nothing is published then.
    """
    actual = container["NetworkSettings"].get("Ports") or {}
    found = {}
    for port, bindings in (container["HostConfig"].get("PortBindings") or {}).items():
        fixed = [binding["HostPort"] for binding in bindings if _is_fixed(binding)]
        left = [entry for entry in actual.get(port) or () if entry["HostPort"] not in fixed]
        if left and not all(_is_fixed(binding) for binding in bindings):
            found[port] = [_as_published(binding, left) for binding in bindings]
    return found


def _is_fixed(binding: Object) -> bool:
    return str(binding.get("HostPort") or "0").strip("0").isdecimal()


def _as_published(binding: Object, left: list[Object]) -> dict[str, str]:
    """The binding with its port. `left`: what the engine published for it and the following bindings."""
    address = binding.get("HostIp") or ""
    same = [entry for entry in left if address in ("", entry["HostIp"])]
    if not _is_fixed(binding) and same:
        chosen = str(same[0]["HostPort"])
        # Without an address, the engine publishes the port for IPv4 and for IPv6.
        left[:] = [entry for entry in left if entry is not same[0] and (address or entry["HostPort"] != chosen)]
        return {"HostIp": address, "HostPort": chosen}
    return {"HostIp": address, "HostPort": str(binding.get("HostPort") or "")}


def carried_files(container: Object) -> list[str]:
    """The paths of files that an earlier rollback carried over."""
    return list(json.loads(labels_of(container).get(FILES, "[]")))


def config_like(
    container: Object,
    its_image: Object | None,
    image: str,
    *,
    networks: dict[str, Object],
    sources: Iterable[Object] = (),
) -> Object:
    """The body for a container with the same settings and another image.

    `container` and `its_image` come from `docker inspect`; `sources` are the existing containers of its `VolumesFrom`.
    Settings of the image are left out. Otherwise the good image would run with the environment, command and health
    check of the bad one.
    """
    config = _own_settings(container)
    inherited: Object = (its_image or {}).get("Config") or {}
    for key in ("WorkingDir", "User", "StopSignal", "Shell", "OnBuild", "ArgsEscaped"):
        if config.get(key) == inherited.get(key):
            config.pop(key, None)
    if config.get("Entrypoint") == inherited.get("Entrypoint"):
        config.pop("Entrypoint", None)
        if config.get("Cmd") == inherited.get("Cmd"):
            config.pop("Cmd", None)
    # The engine merges a health check field by field.
    check, default = config.pop("Healthcheck", None) or {}, inherited.get("Healthcheck") or {}
    if own := {key: value for key, value in check.items() if default.get(key) != value}:
        config["Healthcheck"] = own
    config["Env"] = _own_variables(config.get("Env") or [], inherited.get("Env") or [])
    from_image = inherited.get("Labels") or {}
    config["Labels"] = {
        k: v for k, v in labels_of(container).items() if from_image.get(k) != v and not k.startswith(_OURS)
    }
    bound = container["HostConfig"].get("PortBindings") or {}
    for key, used in (("Volumes", {}), ("ExposedPorts", bound)):
        left = {k: v for k, v in (config.get(key) or {}).items() if k in used or k not in (inherited.get(key) or {})}
        config[key] = left
    host = {**container["HostConfig"], **_same_mounts(container, sources)}
    return {**config, "Image": image, "HostConfig": host, **_first_of(networks)}


def copy_of(
    container: Object,
    service: str,
    image: str,
    *,
    committed: bool,
    files: list[str],
    sources: Iterable[Object],
    mark: str,
) -> Object:
    """The body for a copy that is kept for study. It is never started, and Compose does not count it.

    `service`: Compose project and service, such as `shop/backend`. `image`: the image of the copy.
    """
    labels = labels_of(container)
    ours = {
        KEPT: service,
        ORIGINAL: container["Id"],
        FILES: json.dumps(files),
        _LABELS: json.dumps({k: v for k, v in labels.items() if not k.startswith(_OURS)}),
        _IMAGE: image_of(container),
        _NAME: image_name_of(container),
        EXECUTION: mark,
    }
    # A commit has the labels of its container. Containers made from it inherit those that they do not override.
    inherited = {**dict.fromkeys(labels, ""), _COMPOSE_PROJECT: _KEPT_PROJECT} if committed else {}
    host = {
        **container["HostConfig"],
        **_same_mounts(container, sources),
        "RestartPolicy": {"Name": "no"},
        "ReadonlyRootfs": False,  # its log is written into it
    }
    return {**_own_settings(container), "Image": image, "Labels": {**inherited, **ours}, "HostConfig": host}


def restored_from(copy: Object, image: str, pattern: Object, *, networks: dict[str, Object], mark: str) -> Object:
    """The body that restores the original of a kept copy. `pattern` is the container that runs in its place."""
    labels = labels_of(copy)
    committed = copy["Image"] != image_of(copy)
    ours = {key: labels[key] for key in (FILES, *((_IMAGE, _NAME) if committed else ()))}
    ours[EXECUTION] = mark
    config = {**_own_settings(copy), "Image": image, "Labels": {**json.loads(labels[_LABELS]), **ours}}
    # The containers whose namespaces it shared may have been replaced too.
    shared = ("NetworkMode", "PidMode", "IpcMode")
    as_before = {key: pattern["HostConfig"].get(key) for key in ("RestartPolicy", "ReadonlyRootfs", *shared)}
    return {**config, "HostConfig": {**copy["HostConfig"], **as_before}, **_first_of(networks)}


def wrote_files(container: Object, changes: Iterable[Object]) -> bool:
    """Whether its writable layer contains more than mount points."""
    mounted = {normpath(m["Destination"]) for m in container.get("Mounts") or ()}
    mounted |= {normpath(path) for path in container["HostConfig"].get("Tmpfs") or ()}
    expected = {parent for path in mounted for parent in _and_above(path)}
    return any(change["Path"] not in expected for change in changes)


def _and_above(path: str) -> Iterable[str]:
    while path != "/":
        yield path
        path = dirname(path)


def _own_settings(container: Object) -> Object:
    """Its configuration without the values that the engine filled in."""
    config, mode = dict(container["Config"]), str(container["HostConfig"].get("NetworkMode") or "")
    if config.get("Hostname") == container["Id"][:12] or mode.startswith("container:"):
        config.pop("Hostname", None)
    if mode.startswith("container:"):
        config.pop("Domainname", None)
    return config


def _own_variables(variables: list[str], inherited: list[str]) -> list[str]:
    """Those that are not of the image. The engine appends the image's variables that the container does not set.

    So one with the value of the image can be told from one that was set to the same value.
    """
    for count in range(len(variables)):
        names = {variable.partition("=")[0] for variable in variables[:count]}
        if variables[count:] == [variable for variable in inherited if variable.partition("=")[0] not in names]:
            return variables[:count]
    return [variable for variable in variables if variable not in inherited]


def _first_of(networks: dict[str, Object]) -> Object:
    """Engines before API 1.44 take one network when a container is created; the others are joined afterwards."""
    return {"NetworkingConfig": {"EndpointsConfig": dict(list(networks.items())[:1])}}


def _same_mounts(container: Object, sources: Iterable[Object]) -> Object:
    """`Binds`, `Mounts` and `VolumesFrom` that mount the same volumes as the container, also anonymous ones.

    The settings have no source for an anonymous volume, so the engine would create a new and empty one.
    """
    host, actual = container["HostConfig"], container.get("Mounts") or ()
    volumes = {normpath(m["Destination"]): m["Name"] for m in actual if m["Type"] == "volume"}
    mounts = [_with_source(mount, volumes) for mount in host.get("Mounts") or ()]
    binds = [bind for bind in host.get("Binds") or () if ":" in bind]  # without a colon it is an anonymous volume
    covered = {normpath(m["Target"]) for m in mounts} | {normpath(bind.split(":")[1]) for bind in binds}
    shared = [source for source in sources if source.get("Mounts")]
    provided = {(normpath(m["Destination"]), _source(m)) for source in shared for m in source["Mounts"]}
    for mount in actual:
        destination = normpath(mount["Destination"])
        if (
            mount["Type"] in ("volume", "bind")
            and destination not in covered
            and (destination, _source(mount)) not in provided
        ):
            binds.append(f"{_source(mount)}:{mount['Destination']}{_options(mount)}")
    known = {name for source in shared for name in (source["Id"], source["Name"].lstrip("/"))}
    volumes_from = [entry for entry in host.get("VolumesFrom") or () if entry.split(":")[0] in known] or None
    return {"Binds": binds or None, "Mounts": mounts, "VolumesFrom": volumes_from}


def _with_source(mount: Object, volumes: dict[str, str]) -> Object:
    name = volumes.get(normpath(mount["Target"]))
    return {**mount, "Source": name} if mount["Type"] == "volume" and not mount.get("Source") and name else mount


def _source(mount: Object) -> str:
    return str(mount["Name"] if mount["Type"] == "volume" else mount["Source"])


def _options(mount: Object) -> str:
    propagation = mount.get("Propagation") if mount["Type"] == "bind" else ""
    options = [
        *([] if mount.get("RW", True) else ["ro"]),
        *([propagation] if propagation not in ("", None, "rprivate") else []),
    ]
    return f":{','.join(options)}" if options else ""
