"""Events of Flux, as its notification-controller posts them to a provider of type `generic`.

Format: https://fluxcd.io/flux/components/notification/events/. It does not promise to send an event only once.
"""

from __future__ import annotations

import re

from pydantic import BaseModel, Field

from responder.backends.alertmanager.alerts import Timestamp

_DEPLOYED = {
    "HelmRelease": ("InstallSucceeded", "UpgradeSucceeded", "RollbackSucceeded"),
    # Progressing: applied, while its health checks still run. With a bad version they may never pass.
    "Kustomization": ("Progressing", "ReconciliationSucceeded"),
}
"""The reasons of events about objects that run the revision in the event."""

_GIT, _OCI = re.compile(r".*@sha1:([0-9a-f]+)"), re.compile(r"(.*)@sha256:[0-9a-f]+")


class _Object(BaseModel):
    kind: str = Field(max_length=100)
    namespace: str = Field(default="", max_length=253)
    name: str = Field(max_length=253)


class FluxEvent(BaseModel):
    """An event. Flux adds fields between its versions, so others are ignored."""

    involved: _Object = Field(alias="involvedObject")
    severity: str
    reason: str = Field(max_length=200)
    timestamp: Timestamp
    metadata: dict[str, str] = Field(default_factory=dict, max_length=100)

    @property
    def ignored(self) -> str:
        """Why the event reports no deployment; empty if it reports one."""
        reasons = _DEPLOYED.get(self.involved.kind, ())
        if self.severity != "info" or self.reason not in reasons:
            return f"{self.severity} event {self.reason} of {self.involved.kind} reports no deployment"
        return "" if self._metadata("revision") else f"event {self.reason} has no revision"

    @property
    def service(self) -> str:
        return self._metadata("service") or self.involved.name

    @property
    def environment(self) -> str | None:
        return self._metadata("environment") or None

    @property
    def version(self) -> str:
        """The version that the object or the alert names, otherwise that of the chart's app, otherwise the revision."""
        revision = self._metadata("revision")
        found = _GIT.fullmatch(revision) or _OCI.fullmatch(revision)
        return self._metadata("version") or self._metadata("app-version") or (found[1] if found else revision)

    @property
    def provenance(self) -> str:
        """The object and the revision that it applied."""
        involved = self.involved
        return f"Flux {involved.kind} {involved.namespace}/{involved.name} at {self._metadata('revision')}"[:1000]

    def _metadata(self, key: str) -> str:
        # Older versions of Flux keep the prefix of each key, such as `kustomize.toolkit.fluxcd.io/`.
        found = [
            self.metadata.get(key),
            *(v for k, v in sorted(self.metadata.items()) if k.endswith(f".fluxcd.io/{key}")),
        ]
        return next((value for value in found if value), "")
