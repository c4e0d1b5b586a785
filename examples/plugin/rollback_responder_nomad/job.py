"""The version of a Nomad job."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from foundation.durations import Duration
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.errors import StepFailed
from rollback_responder_nomad.client import Nomad

_ENDED = ("failed", "cancelled")


class NomadJob(Resource[Nomad, str | None]):
    """The version of a Nomad job, as its `meta` names it.

    A revert gives the job a new number, so the number does not identify the version. The value is the version in the
    job's `meta`; None if the job is stopped. A change of the job that keeps this version is not detected.
    """

    resource: Literal["nomad_job"] = "nomad_job"
    job: str = Field(min_length=1, description="ID of the job")
    meta_key: str = Field(default="version", description="Key of the job's `meta` that holds the version")
    converge_within: Duration = Field(default=600.0, gt=0, description="Timeout of a Nomad deployment")

    @property
    def converge_timeout(self) -> float:
        """As Resource.converge_timeout."""
        return self.converge_within

    async def read(self, client: Nomad) -> str | None:
        """The version of the job; None if the job is stopped."""
        return self._version(await client.job(self.job))

    async def write(self, client: Nomad, value: str | None, *, expected: str | None) -> None:
        """Reverts the job to the newest stable Nomad version with this value; to an unstable one if none is stable."""
        job = await client.job(self.job)
        if (found := self._version(job)) == value:
            return
        self.must_be(found, expected)
        candidates = list(self._of(value, await client.versions(self.job)))
        if not candidates:
            raise StepFailed(f"{self}: Nomad keeps no version {value}")
        target = next((version for version in candidates if version["Stable"]), candidates[0])
        await client.revert(self.job, to=target["Version"], current=job["Version"])

    async def converged(self, client: Nomad, value: str | None) -> bool:
        """Whether the deployment of this version is successful. Raises StepFailed if it failed."""
        job = await client.job(self.job)
        if self._version(job) != value:
            return False
        deployment = await client.deployment(self.job)
        if deployment is None:  # a job without deployments, such as a batch job
            return bool(job["Status"] == "running")
        if deployment["JobVersion"] != job["Version"]:
            return False  # Nomad has not started the deployment yet
        if deployment["Status"] in _ENDED:
            raise StepFailed(f"{self}: deployment {deployment['Status']}: {deployment['StatusDescription']}")
        return bool(deployment["Status"] == "successful")

    async def value_of(self, client: Nomad, version: str, artifact: str) -> str | None:
        """The version itself. Raises StepFailed unless Nomad keeps a stable version of the job with it."""
        if not any(candidate["Stable"] for candidate in self._of(version, await client.versions(self.job))):
            raise StepFailed(f"{self}: Nomad keeps no stable version {version}; tag versions that you need to keep")
        return version

    async def runs(self, client: Nomad, found: str | None, version: str, artifact: str) -> bool:
        """Whether the job is at this version."""
        return found == version

    async def check_access(self, client: Nomad) -> list[Problem]:
        """Checks that the job can be read and names its version. Nomad has no dry run for the permission to revert."""
        job = await client.job(self.job)
        if job.get("Stop"):
            return [Problem(str(self), "the job is stopped", "run it: a stopped job has no version to roll back")]
        if self._version(job) is None:
            return [Problem(str(self), f"its meta has no {self.meta_key}", f'add meta {{ {self.meta_key} = "…" }}')]
        return []

    def __str__(self) -> str:
        return f"version of the Nomad job {self.job}"

    def _version(self, job: dict[str, Any]) -> str | None:
        return None if job.get("Stop") else (job.get("Meta") or {}).get(self.meta_key)

    def _of(self, value: str | None, versions: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        return (version for version in versions if self._version(version) == value)
