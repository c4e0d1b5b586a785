"""The configuration: puts together the models of all rooms. `app.loading` reads it from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import (
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from foundation.configuration.yaml_document import Mistake
from foundation.models import StrictModel
from foundation.secrets import SecretFile, read_secret
from responder.backends.alertmanager.client import AlertmanagerSettings
from responder.backends.app_stores.settings import StoreSettings
from responder.backends.connections import Connections, missing_package, missing_settings
from responder.backends.docker.client import DockerSettings
from responder.backends.kubernetes.client import KubernetesSettings
from responder.backends.postgres.client import DatabaseSettings
from responder.backends.postgres.snapshots.client import SnapshotSettings
from responder.backends.postgres.snapshots.store import SnapshotStoreSettings
from responder.backends.prometheus.client import PrometheusSettings
from responder.backends.sites.settings import CdnSettings
from responder.decisions.freeze_windows import Freeze
from responder.decisions.limits import Limits, Watchdog
from responder.decisions.policies import Policy
from responder.decisions.policy_set import PolicySet, freeze_contradictions, policy_contradictions
from responder.evidence.settings import EvidenceSettings
from responder.journal import state_problem
from responder.journal.settings import JournalSettings
from responder.logging import LogSettings
from responder.notify import Notify
from responder.services.contradictions import contradictions
from responder.services.service import Service
from responder.transport.aws import Aws, AwsSettings
from responder.web.access.settings import WebSettings
from responder.web.client_settings import ClientSettings


class Config(StrictModel):
    """The whole configuration, `responder.yml`."""

    state: str = Field(description="sqlite:///absolute/path or postgresql://user:${PGPASSWORD}@host/database")
    state_password_file: SecretFile | None = Field(
        default=None, description="File with the PostgreSQL password, such as a mounted secret"
    )
    journal: JournalSettings = Field(
        default=JournalSettings(), description="How long details stay in the journal; default: forever"
    )
    prometheus: PrometheusSettings = Field(description="For PromQL checks, and for alerts that bypass Alertmanager")
    alertmanager: AlertmanagerSettings = Field(description="Queried for firing alerts and silences before every change")
    kubernetes: KubernetesSettings = Field(default=KubernetesSettings(), description="Connection to the cluster")
    docker: DockerSettings = Field(default=DockerSettings(), description="Connection to the Docker Engine")
    databases: tuple[DatabaseSettings, ...] = Field(default=(), description="Databases that can be rolled back")
    snapshots: tuple[SnapshotStoreSettings, ...] = Field(default=(), description="Stores for database snapshots")
    aws: AwsSettings = Field(default=AwsSettings(), description="Connection to S3, CloudFront and other AWS services")
    evidence: EvidenceSettings | None = Field(
        default=None, description="Evidence collected before a rollback; default: none"
    )
    cdn: CdnSettings = Field(default=CdnSettings(), description="Connections to Cloudflare and Fastly")
    stores: StoreSettings = Field(default=StoreSettings(), description="Connections to app stores")
    web: WebSettings = WebSettings()
    clients: ClientSettings | None = Field(default=None, description="Signed documents that apps poll")
    limits: Limits = Limits()
    log: LogSettings = LogSettings()
    pass_environment: tuple[Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")], ...] = Field(
        default=(),
        description="Environment variables for restart and test commands, besides PATH, HOME, the locale and those of "
        "systemctl --user",
    )
    stop_file: Path | None = Field(default=None, description="File that stops all automation while it exists")
    watchdog: Watchdog | None = Field(
        default=None,
        description="Watchdog alert, which always fires; while it is missing or silenced, no rollback starts",
    )
    freezes: tuple[Freeze, ...] = Field(default=(), description="Freeze windows, in which rollbacks need approval")
    services: tuple[Service, ...] = Field(default=(), description="Services that can be rolled back")
    policies: tuple[Policy, ...] = Field(default=(), description="Policies; the first that matches an alert handles it")
    notify: Notify = Field(default=Notify(), description="Notification channels and routing")
    _loaded_at: datetime = PrivateAttr(default_factory=lambda: datetime.now(UTC))
    _journal_url: str = PrivateAttr(default="")

    @field_validator("state")
    @classmethod
    def _is_one_of_the_journals(cls, value: str) -> str:
        if problem := state_problem(value):
            raise ValueError(problem)
        return value

    @field_validator("state_password_file")
    @classmethod
    def _fits_the_state(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        url = urlsplit(info.data.get("state", "postgresql://user@host"))
        if file and (url.scheme == "sqlite" or not url.username or url.password is not None):
            raise ValueError("needs a state such as postgresql://user@host/database, without a password")
        if file:
            read_secret(file)
        return file

    @model_validator(mode="after")
    def _with_its_password(self) -> Config:
        self._journal_url = self.state
        if self.state_password_file is not None:
            url, secret = urlsplit(self.state), quote(read_secret(self.state_password_file), safe="")
            self._journal_url = url._replace(netloc=url.netloc.replace("@", f":{secret}@", 1)).geturl()
        return self

    @property
    def journal_url(self) -> str:
        """`state` with the password from `state_password_file`."""
        return self._journal_url

    @property
    def loaded_at(self) -> datetime:
        return self._loaded_at

    @property
    def policy_set(self) -> PolicySet:
        return PolicySet(
            services=self.services,
            policies=self.policies,
            stop_file=self.stop_file,
            limits=self.limits,
            freezes=self.freezes,
            watchdog=self.watchdog,
        )

    @property
    def snapshot_settings(self) -> SnapshotSettings:
        """What the client of snapshots needs."""
        return SnapshotSettings(self.snapshots, self.databases, self.aws)

    def connections(self) -> Connections:
        """The clients of outside systems. Each one gets the value of the key that its class names as `setting`."""
        return Connections(self._settings_of)

    def _settings_of(self, client: type[Any]) -> Any:
        key = getattr(client, "setting", None)
        return None if key is None else attrgetter(key)(self)

    def contradictions(self) -> tuple[Callable[[], Iterator[Mistake]], ...]:
        """Checks for mistakes that no part of the configuration can see alone."""
        databases, snapshots = [d.name for d in self.databases], [store.name for store in self.snapshots]
        return (
            self._of_web,
            lambda: contradictions(self.services, databases=databases, snapshots=snapshots),
            self._short_retention,
            self._unmet_needs,
            lambda: _duplicates("databases", databases),
            lambda: _duplicates("snapshots", snapshots),
            lambda: policy_contradictions(self.policies, self.services, evidence=self.evidence is not None),
            lambda: self.notify.contradictions(self.policies),
            lambda: freeze_contradictions(self.freezes, self.services),
        )

    def _of_web(self) -> Iterator[Mistake]:
        named = {(service.name, service.environment) for service in self.services}
        for path, problem in self.web.contradictions(named, watchdog=self.watchdog is not None):
            yield ("web", *path), problem

    def _short_retention(self) -> Iterator[Mistake]:
        """What guards and promotion look back on must be in the journal."""
        needed = {f"limits.circuit_breaker.within of {(within := self.limits.circuit_breaker.within):g} s": within}
        needed |= {f"soak of {service.name}, {service.soak:g} s": service.soak for service in self.services}
        longest = max(needed, key=lambda name: needed[name])
        if self.journal.retention is not None and self.journal.retention <= needed[longest]:
            yield ("journal", "retention"), f"must be longer than {longest}"

    def _unmet_needs(self) -> Iterator[Mistake]:
        """Python packages and credentials that services need, and a store for their logs."""
        for i, service in enumerate(self.services):
            packages = map(missing_package, service.clients)
            settings = (missing_settings(kind, self._settings_of(kind)) for kind in service.clients)
            for missing in sorted(filter(None, (*packages, *settings))):
                yield ("services", i), missing
            if service.logs and self.evidence is None:
                yield ("services", i, "logs"), "no store for the logs; configure `evidence`"
        if self.journal.bucket and (missing := missing_package(Aws)):
            yield ("journal", "archive"), missing
        if self.evidence and self.evidence.s3 and (missing := missing_package(Aws)):
            yield ("evidence", "s3"), missing


def _duplicates(key: str, names: list[str]) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if first.setdefault(name, i) != i:
            yield (key, i, "name"), f"duplicate name {name}, as {key}[{first[name]}]; give each its own name"
