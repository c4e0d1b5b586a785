"""A check that the containers of a Compose service are healthy."""

from __future__ import annotations

from pydantic import Field

from foundation.models import StrictModel
from responder.backends.check import Check, Finding
from responder.backends.docker.client import Docker
from responder.backends.problems import Problem


class ContainerSelection(StrictModel):
    """The containers of a check."""

    project: str = Field(min_length=1, description="Compose project")
    service: str = Field(min_length=1, description="Service in the project")
    numbers: tuple[int, ...] = Field(default=(), description="Container numbers; default: all")


class ContainersCheck(Check[Docker]):
    """The containers of a Compose service run, and those with a HEALTHCHECK are healthy."""

    containers: ContainerSelection = Field(description="The containers that must be healthy")

    @property
    def _labels(self) -> dict[str, str]:
        labels = {"project": self.containers.project, "service": self.containers.service}
        return {f"com.docker.compose.{key}": value for key, value in labels.items()}

    async def check_access(self, docker: Docker) -> list[Problem]:
        if await docker.containers(self._labels):
            return []
        label = f"Compose service {self.containers.project}/{self.containers.service}"
        return [Problem(label, "has no container", "correct project and service, or bring it up")]

    async def holds(self, docker: Docker) -> Finding:
        found = [c for c in await docker.containers(self._labels) if c["State"]["Running"]]
        numbers = self.containers.numbers
        if numbers:
            found = [c for c in found if int(c["Config"]["Labels"]["com.docker.compose.container-number"]) in numbers]
        states = {c["Name"].lstrip("/"): (c["State"].get("Health") or {}).get("Status", "running") for c in found}
        bad = [f"{name} is {state}" for name, state in states.items() if state not in ("healthy", "running", "none")]
        enough = len(found) >= max(len(numbers), 1)
        few = f"{len(found)} of {len(numbers) or 'its'} containers run"
        return Finding(
            holds=enough and not bad, reason="; ".join(bad) or (few if not enough else f"{', '.join(states)} run")
        )
