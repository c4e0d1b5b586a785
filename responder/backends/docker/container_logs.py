"""Logs of containers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pydantic import Field, model_validator

from foundation.models import StrictModel
from responder.backends.docker.client import Docker
from responder.backends.log_source import EVER, MAX_LINES, Chunks, Log, LogSource, as_json, newest
from responder.backends.problems import Problem
from responder.errors import StepFailed


class ContainerSelector(StrictModel):
    """A Compose service, or one container by name."""

    project: str | None = Field(default=None, min_length=1, description="Compose project")
    service: str | None = Field(default=None, min_length=1, description="Service in the project")
    container: str | None = Field(
        default=None,
        pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="Container name, instead of project and service",
    )

    @model_validator(mode="after")
    def _names_one(self) -> ContainerSelector:
        if (self.container is None) == (self.project is None) or (self.project is None) != (self.service is None):
            raise ValueError("needs project and service, or container")
        return self


class ContainerLogs(LogSource[Docker]):
    """Logs and states of containers, running or stopped."""

    docker: ContainerSelector = Field(description="Containers: {project: shop, service: backend}, or {container: name}")

    def __str__(self) -> str:
        return f"docker {self.docker.container or f'{self.docker.project}/{self.docker.service}'}"

    async def logs(self, client: Docker, since: datetime) -> list[Log]:
        if self.docker.container is not None:
            container = await client.container(self.docker.container)
            found = [container] if container else []
        else:
            labels = {"project": self.docker.project, "service": self.docker.service}
            found = await client.containers({f"com.docker.compose.{k}": str(v) for k, v in labels.items()})
        if not found:
            raise StepFailed("no such container")
        found.sort(key=lambda container: str(container["State"].get("StartedAt", "")), reverse=True)
        states = [
            {"name": c["Name"].lstrip("/"), "image": c["Config"]["Image"], "restarts": c.get("RestartCount", 0)}
            | {"state": {k: v for k, v in c["State"].items() if k != "Health"}}
            | {"health": (c["State"].get("Health") or {}).get("Log", [])[-3:]}
            for c in found
        ]
        return [
            as_json("docker-containers", "the state of the containers", states),
            *(
                Log(f"docker-{name}", f"container {name}", _log_of(client, container["Id"], since))
                for container in found
                for name in [container["Name"].lstrip("/")]
            ),
        ]

    async def check_access(self, client: Docker) -> list[Problem]:
        return await self.unreadable(client, EVER, "use the logging driver json-file, local or journald")


def _log_of(docker: Docker, container: str, since: datetime) -> Callable[[], Chunks]:
    return lambda: newest(docker.log(container, since=since, lines=MAX_LINES))
