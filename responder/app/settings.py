"""What can be configured, and what its parts cannot see of each other. `config_file` reads it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from foundation.secret_files import SecretFile
from responder.backends.alertmanager.client import Alertmanager, AlertmanagerSettings
from responder.backends.alertmanager.matchers import all_match
from responder.backends.app_stores.app_store_client import AppStore, AppStoreSettings
from responder.backends.app_stores.google_play_client import GooglePlay, GooglePlaySettings
from responder.backends.connections import Connections, missing_package
from responder.backends.docker.client import Docker, DockerSettings
from responder.backends.host.client import Local
from responder.backends.kubernetes.client import Kubernetes, KubernetesSettings
from responder.backends.postgres.checks import asks
from responder.backends.postgres.client import DatabaseSettings, Postgres
from responder.backends.postgres.schema_revision import SchemaRevision
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.snapshots.client import Snapshots, SnapshotSettings
from responder.backends.postgres.snapshots.resource import Snapshot
from responder.backends.postgres.snapshots.store import ShelfSettings
from responder.backends.prometheus.client import Prometheus, PrometheusSettings
from responder.backends.sites.cdn_client import Cloudflare, CloudflareSettings, Fastly, FastlySettings
from responder.config.text import meant
from responder.decisions.freeze_windows import Freeze
from responder.decisions.limits import Limits, Watchdog
from responder.decisions.policies import Policy
from responder.decisions.policy_set import PolicySet
from responder.evidence.settings import EvidenceSettings
from responder.journal import state_problem
from responder.notify import Notify
from responder.rollback.strategies import checks_of, resources_of
from responder.services.service import Service
from responder.transport.aws import Aws, AwsSettings
from responder.transport.signing import ClientSettings
from responder.web.access.settings import Web


class Log(BaseModel):
    """How the responder's own log looks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Literal["console", "json"] = Field(default="console", description="For people, or for machines")
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least that is told")


class Cdn(BaseModel):
    """How CDNs are reached; Amazon's by `aws`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cloudflare: CloudflareSettings | None = Field(default=None, description="For what Cloudflare holds")
    fastly: FastlySettings | None = Field(default=None, description="For what Fastly serves and holds")


class Stores(BaseModel):
    """How app stores are reached."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    google_play: GooglePlaySettings | None = Field(default=None, description="For apps on Google Play")
    app_store: AppStoreSettings | None = Field(default=None, description="For apps in Apple's App Store")


class Config(BaseModel):
    """responder.yml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: str = Field(description="sqlite:///absolute/path or postgresql://user:${PGPASSWORD}@host/database")
    state_password_file: SecretFile | None = Field(
        default=None, description="File that holds the password for PostgreSQL, as a mounted secret"
    )
    prometheus: PrometheusSettings = Field(description="Asked by PromQL checks, and for alerts past Alertmanager")
    alertmanager: AlertmanagerSettings = Field(description="Asked before every act whether the alert still fires")
    kubernetes: KubernetesSettings = Field(default=KubernetesSettings(), description="How the cluster is reached")
    docker: DockerSettings = Field(default=DockerSettings(), description="How the Docker Engine is reached")
    databases: tuple[DatabaseSettings, ...] = Field(default=(), description="Databases that can be rolled back")
    snapshots: tuple[ShelfSettings, ...] = Field(default=(), description="Where snapshots of databases are kept")
    aws: AwsSettings = Field(default=AwsSettings(), description="How S3 and Amazon's other services are reached")
    evidence: EvidenceSettings | None = Field(
        default=None, description="What is kept of a service before it is rolled back; left out: nothing"
    )
    cdn: Cdn = Field(default=Cdn(), description="How other CDNs are reached")
    stores: Stores = Field(default=Stores(), description="How app stores are reached")
    web: Web = Web()
    clients: ClientSettings | None = Field(
        default=None, description="The documents that apps poll; without it nobody is told anything"
    )
    limits: Limits = Limits()
    log: Log = Log()
    pass_environment: tuple[Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")], ...] = Field(
        default=(),
        description="Environment variables that restart and test commands get, besides PATH, HOME, the locale and what "
        "systemctl --user needs",
    )
    stop_file: Path | None = Field(default=None, description="While this file exists, nothing is begun and all stops")
    watchdog: Watchdog | None = Field(
        default=None, description="An alert that always fires; where it stays away or is silenced, nothing is begun"
    )
    freezes: tuple[Freeze, ...] = Field(default=(), description="When nothing is rolled back without approval")
    services: tuple[Service, ...] = Field(default=(), description="What can be rolled back")
    policies: tuple[Policy, ...] = Field(default=(), description="First match wins, for each alert by itself")
    notify: Notify = Field(default=Notify(), description="Who is told what goes on")
    _loaded_at: datetime = PrivateAttr(default_factory=lambda: datetime.now(UTC))
    _journal: str = PrivateAttr(default="")

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
            raise ValueError("needs a state like postgresql://user@host/database, without a password of its own")
        if file:
            try:
                file.read_text()
            except OSError as e:
                raise ValueError(f"{file} cannot be read: {e.strerror}") from None
        return file

    @model_validator(mode="after")
    def _with_its_password(self) -> Config:
        self._journal = self.state
        if self.state_password_file is not None:
            url, secret = urlsplit(self.state), quote(self.state_password_file.read_text().strip(), safe="")
            self._journal = url._replace(netloc=url.netloc.replace("@", f":{secret}@", 1)).geturl()
        return self

    @property
    def journal(self) -> str:
        """`state`, with the password from its file."""
        return self._journal

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

    def connections(self) -> Connections:
        return Connections(
            {
                Prometheus: self.prometheus,
                Alertmanager: self.alertmanager,
                Kubernetes: self.kubernetes,
                Docker: self.docker,
                Local: self.pass_environment,
                Postgres: self.databases,
                Schemas: self.databases,
                Aws: self.aws,
                Cloudflare: self.cdn.cloudflare,
                Fastly: self.cdn.fastly,
                Snapshots: SnapshotSettings(self.snapshots, self.databases, self.aws),
                GooglePlay: self.stores.google_play,
                AppStore: self.stores.app_store,
            }
        )

    def contradictions(self) -> Iterator[tuple[tuple[int | str, ...], str]]:
        """What each part cannot see by itself: the place of every mistake, and what is wrong."""
        services = [(service.name, service.environment) for service in self.services]
        for path, wrong in self.web.contradictions(services, watchdog=self.watchdog is not None):
            yield ("web", *path), wrong
        databases, stores = [database.name for database in self.databases], [store.name for store in self.snapshots]
        indexes: dict[tuple[str, str], int] = {}
        for i, service in enumerate(self.services):
            first = indexes.setdefault((service.name, service.environment), i)
            if first != i:
                yield ("services", i, "name"), f"{service.name} in {service.environment} is services[{first}] already"
            needs: list[tuple[tuple[int | str, ...], str]] = [
                *((("depends_on", j), name) for j, name in enumerate(service.depends_on)),
                *((("requires", name), name) for name in service.requires),
            ]
            for path, needed in needs:
                if not any((s.name, s.environment) == (needed, service.environment) for s in self.services):
                    problem = f"no service {needed} is configured in {service.environment}"
                    yield ("services", i, *path), problem
            for missing in sorted({missing for kind in service.clients if (missing := missing_package(kind))}):
                yield ("services", i), missing
            if service.logs and self.evidence is None:
                yield ("services", i, "logs"), "would be kept nowhere: `evidence` is not configured"
            for name, kind, settings in (
                ("token: cdn.cloudflare", Cloudflare, self.cdn.cloudflare),
                ("token: cdn.fastly", Fastly, self.cdn.fastly),
                ("key: stores.google_play", GooglePlay, self.stores.google_play),
                ("key: stores.app_store", AppStore, self.stores.app_store),
            ):
                if kind in service.clients and settings is None:
                    yield ("services", i), f"needs a {name}"
            if ring := self._ring(service):
                yield ("services", i, "depends_on"), f"depends on itself: {' → '.join(ring)}"
            strategies = (service.rollback, *service.alternatives)
            resources = [resource for strategy in strategies for resource in resources_of(strategy)]
            for snapshot in (resource for resource in resources if isinstance(resource, Snapshot)):
                for wrong in snapshot.not_configured(databases=databases, snapshots=stores):
                    yield ("services", i, "rollback"), wrong
            checks = (
                *service.health_checks,
                *service.traffic_checks,
                *(c for strategy in strategies for c in checks_of(strategy)),
            )
            for name in sorted(
                {
                    *(resource.database for resource in resources if isinstance(resource, SchemaRevision)),
                    *map(asks, checks),
                }
            ):
                if name and name not in databases:
                    yield ("services", i), f"no database {name} is configured{meant(name, set(databases))}"
        if self.evidence and self.evidence.s3 and (missing := missing_package(Aws)):
            yield ("evidence", "s3"), missing
        for key, known in (("databases", databases), ("snapshots", stores)):
            for i, name in enumerate(known):
                if name in known[:i]:
                    yield (key, i, "name"), f"{name} is the name of an earlier one"
        names = {service.name for service in self.services}
        for i, policy in enumerate(self.policies):
            if any(policy.name == earlier.name for earlier in self.policies[:i]):
                yield ("policies", i, "name"), f"{policy.name} is the name of an earlier policy"
            for action in policy.actions:
                wanted = getattr(policy, action)
                for j, name in enumerate(wanted if isinstance(wanted, tuple) else ()):
                    if name not in names:
                        yield ("policies", i, action, j), f"no service {name} is configured{meant(name, names)}"
            yield from self._without_logs(i, policy)
            fixed = {m.name: m.value for m in policy.match if m.op == "="}
            for j, collateral in enumerate(policy.silence_collateral):
                if all_match(collateral.match, fixed):
                    yield (
                        ("policies", i, "silence_collateral", j),
                        "would silence the very alerts that the policy acts on",
                    )
        yield from self.notify.contradictions(self.policies)
        for i, freeze in enumerate(self.freezes):
            for j, name in enumerate(freeze.services):
                if name not in names:
                    yield ("freezes", i, "services", j), f"no service {name} is configured{meant(name, names)}"

    def _without_logs(self, i: int, policy: Policy) -> Iterator[tuple[tuple[int | str, ...], str]]:
        if policy.preserve_logs is None:
            return
        if self.evidence is None:
            yield ("policies", i, "preserve_logs"), "would be kept nowhere: `evidence` is not configured"
        for j, name in enumerate(policy.preserve_logs if isinstance(policy.preserve_logs, tuple) else ()):
            candidates = [service for service in self.services if service.name == name]
            if candidates and not any(service.logs for service in candidates):
                yield ("policies", i, "preserve_logs", j), f"{name} has no `logs` that could be kept"

    def _ring(self, start: Service) -> list[str]:
        needs = {s.name: s.depends_on for s in self.services if s.environment == start.environment}
        paths = [[start.name]]
        seen = set()
        while paths:
            path = paths.pop()
            for needed in needs.get(path[-1], ()):
                if needed == start.name:
                    return [*path, needed]
                if needed not in seen:
                    seen.add(needed)
                    paths.append([*path, needed])
        return []
