"""Services of a Docker Compose file."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from responder.app.setup.found import FoundService, FoundServices
from responder.errors import Invalid

_RENDER = "render it first: docker compose config | responder init --from-compose - …"

_STATEFUL = re.compile(
    r"(^|/)(postgres|postgresql|postgis|timescaledb|mysql|mariadb|mongo|redis|valkey|memcached|rabbitmq|kafka|nats"
    r"|zookeeper|elasticsearch|opensearch|cassandra|clickhouse-server|etcd|minio)(:|$)"
)
"""Images whose data an older version may be unable to read."""


def read_compose(file: Path, images: Path) -> tuple[str, FoundServices]:
    """The project's name and services; `-` reads standard input. `images`: the Compose file that keeps good images.

    Raises Invalid.
    """
    where = f"--from-compose {file}"
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        document = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise Invalid(f"{where}: cannot be read: {e}") from None
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict) or not services:
        raise Invalid(f"{where}: expected a Compose file with `services`")
    project = str(document.get("name") or _project_of(file))
    left_out, found = dict[str, str](), list[FoundService]()
    for name, settings in services.items():
        settings = settings if isinstance(settings, dict) else {}
        if reason := _obstacle(settings):
            left_out[str(name)] = reason
        else:
            found.append(_service(project, str(name), settings, images))
    return project, FoundServices(tuple(found), left_out)


def _project_of(file: Path) -> str:
    """The name that Compose derives from the directory of the file."""
    name = re.sub(r"[^-_a-z0-9]", "", file.resolve().parent.name.lower()).lstrip("_-")
    if str(file) == "-" or not name:
        raise Invalid(f"--from-compose {file}: has no `name`, the name of the project ({_RENDER})")
    return name


def _obstacle(settings: Mapping[str, Any]) -> str:
    image = str(settings.get("image") or "")
    if not image:
        return "has no `image`: name an image with a tag for each version, so that the last good one can be found"
    if "extends" in settings or "$" in image:
        return f"its image is not written out ({_RENDER})"
    if _STATEFUL.search(image.partition("@")[0]):
        return "stores data, which an older version may be unable to read: docs/how-to/database.md"
    return ""


def _service(project: str, name: str, settings: Mapping[str, Any], images: Path) -> FoundService:
    label = {"project": project, "service": name}
    several = int((settings.get("deploy") or {}).get("replicas") or settings.get("scale") or 1) > 1
    rollback = {"strategy": "rolling" if several else "immediate", "docker": label | {"override": str(images)}}
    return FoundService(name, rollback, _health_url(name, settings), ({"containers": label},))


def _health_url(name: str, settings: Mapping[str, Any]) -> str:
    """The URL that the container's own health check requests, with the service's name as the host."""
    test = (settings.get("healthcheck") or {}).get("test") or ""
    command = test if isinstance(test, str) else " ".join(map(str, test))
    found = re.search(r"https?://[^\s\"']+", command)
    if found is None:
        return ""
    url = urlsplit(found[0])
    port = f":{url.port}" if url.port else ""
    return url._replace(netloc=f"{name}{port}").geturl()
