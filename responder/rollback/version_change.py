"""The change of one service from the running version to the target version."""

from __future__ import annotations

from pydantic import Field

from foundation.models import StrictModel


class VersionChange(StrictModel):
    """The service and its two versions. Both versions are fixed by the decision.

    The keys of the dictionaries are platforms; the empty key stands for the service as a whole.
    """

    service: str
    environment: str
    from_version: str  # runs now
    to_version: str  # known good
    strategy: str = ""  # name of one of the service's strategies; empty: the configured default
    artifacts: dict[str, str] = Field(
        default_factory=dict
    )  # of to_version, as {"": "repo@sha256:…", "android": "versionCode=41"}
    from_artifacts: dict[str, str] = Field(default_factory=dict)  # of from_version
    platform_versions: dict[str, str] = Field(
        default_factory=dict
    )  # the version that each platform runs, as far as it was reported
    execution: str = ""  # ID of the execution, with which a rollback labels its changes

    @property
    def artifact(self) -> str:
        """The artifact of `to_version` for the service as a whole; empty if the version itself names it."""
        return self.artifacts.get("", "")

    @property
    def from_artifact(self) -> str:
        """The artifact of `from_version` for the service as a whole; empty if none was reported."""
        return self.from_artifacts.get("", "")
