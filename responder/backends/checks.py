"""What a gate asks: PromQL over the service's own signals, the service itself over HTTP, or its database."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import datetime
from typing import Annotated, Any, ClassVar

import re2
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    JsonValue,
    Tag,
    field_validator,
    model_validator,
)

from responder.backends.docker.client import Docker
from responder.backends.findings import Finding
from responder.backends.http.client import Http
from responder.backends.kubernetes.access import missing_rights
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import Name, is_ready, other_image, trouble_of
from responder.backends.postgres.checks import IntactCheck, SqlCheck
from responder.backends.problems import Problem
from responder.backends.prometheus.client import Prometheus, Sample
from responder.backends.prometheus.trouble_check import TroubleCheck
from responder.config.durations import Duration
from responder.config.unions import union_by_key
from responder.errors import Unavailable

__all__ = ["Check", "Finding", "GateCheck"]
_ABSENT = object()


class PromqlCheck(BaseModel):
    """Every series of an instant query is within the bounds. No data, and NaN, never hold: silence is not health."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    client: ClassVar[type] = Prometheus

    promql: str = Field(min_length=1, description="Instant query; every series of the answer must be within the bounds")
    name: str = Field(default="", max_length=100, description="What messages call it instead of the query")
    at_least: float | None = Field(default=None, description="Lower bound, included")
    at_most: float | None = Field(default=None, description="Upper bound, included")
    above: float | None = Field(default=None, description="Lower bound, excluded")
    below: float | None = Field(default=None, description="Upper bound, excluded")

    @model_validator(mode="after")
    def _says_what_is_good(self) -> PromqlCheck:
        if all(bound is None for bound in (self.at_least, self.at_most, self.above, self.below)):
            raise ValueError("needs at least one of at_least, at_most, above, below")
        return self

    def _within(self, value: float) -> bool:
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    async def check_access(self, prometheus: Prometheus) -> list[Problem]:
        """Raises Halt where Prometheus refuses the query. Whether it has data is for `holds`."""
        await prometheus.query(self.promql)
        return []

    async def holds(self, prometheus: Prometheus, at: datetime | None = None) -> Finding:
        samples = await prometheus.query(self.promql, at=at)
        if all(math.isnan(sample.value) for sample in samples):
            return Finding(holds=False, answered=False, reason=f"{self.name or self.promql} has no data")
        wrong = [s for s in samples if not self._within(s.value)]
        values = "; ".join(f"{s.value:g}{self._labels(s)}" for s in (wrong or samples)[:3])
        return Finding(holds=not wrong, reason=f"{self.name or self.promql} is {values}, wanted {self._wanted()}")

    def _labels(self, sample: Sample) -> str:
        """Those that the query does not name itself, as ` (instance=a)`; it names the metric."""
        labels = {name: value for name, value in sample.labels.items() if name != "__name__"}
        shown = [f"{name}={value}" for name, value in labels.items() if f'{name}="{value}"' not in self.promql]
        return f" ({', '.join(shown)})" if shown else ""

    def _wanted(self) -> str:
        bounds = (("at least", self.at_least), ("at most", self.at_most), ("above", self.above), ("below", self.below))
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)


class HttpCheck(BaseModel):
    """A GET that answers with the status, and where asked with the body or JSON fields. Redirects are not followed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    client: ClassVar[type] = Http

    http: HttpUrl = Field(description="URL to GET")
    status: int = Field(default=200, ge=100, le=599, description="The status that means healthy")
    body: str | None = Field(default=None, description="RE2 expression that the body must contain")
    fields: dict[str, JsonValue] = Field(
        default_factory=dict, description="Fields that the JSON body must have, as {version: '2.1'}; dots go deeper"
    )
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="SHA-256 that the body must have")
    headers: dict[str, str] = Field(default_factory=dict, description="Request headers")
    timeout: Duration = Field(default=5.0, gt=0, description="Longest wait for the whole answer")
    every_address: bool = Field(
        default=False, description="Whether each address that the host has is asked, as far as it answers; else any"
    )

    @field_validator("body")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            options = re2.Options()
            options.log_errors = False
            try:
                re2.compile(value, options)
            except re2.error:
                raise ValueError(f"{value!r} is not a regular expression of RE2") from None
        return value

    async def check_access(self, http: Http) -> list[Problem]:
        """Raises Unavailable where it cannot be reached. Nothing may listen at the moment: that is for `holds`."""
        await http.reach(str(self.http), timeout=self.timeout)
        return []

    async def holds(self, http: Http) -> Finding:
        try:
            if not self.every_address:
                return await self._look(http, "")
            found = await http.addresses(str(self.http), timeout=self.timeout)
            findings = await asyncio.gather(*(self._look_at(http, at) for at in found))
        except Unavailable as e:  # it is the service itself that is asked: its silence is an answer
            return Finding(holds=False, reason=str(e))
        answers = [finding for finding in findings if finding.answered] or findings
        return next((finding for finding in answers if not finding.holds), answers[0])

    async def _look_at(self, http: Http, at: str) -> Finding:
        try:
            return await self._look(http, at)
        except Unavailable as e:
            return Finding(holds=False, answered=False, reason=str(e))

    async def _look(self, http: Http, at: str) -> Finding:
        how: dict[str, Any] = {"headers": self.headers, "timeout": self.timeout, "at": at}
        status, body = await http.get(str(self.http), **how)
        wrong = f"{self.http}{at and f' at {at}'} answered {status}"
        if status != self.status:
            return Finding(holds=False, reason=f"{wrong}, wanted {self.status}")
        if self.sha256 is not None:
            status, digest = await http.digest(str(self.http), **how)
            if (status, digest) != (self.status, self.sha256):
                mismatch = f"body has the SHA-256 {digest[:12]}, wanted {self.sha256[:12]}"
                where = f"{self.http}{at and f' at {at}'}"
                return Finding(holds=False, reason=f"{where} answered {status}, but its {mismatch}")
        if self.body is not None and not re2.search(self.body, body):
            return Finding(holds=False, reason=f"{wrong}, but its body does not contain {self.body!r}")
        if self.fields:
            try:
                document = json.loads(body)
            except (ValueError, RecursionError):
                return Finding(holds=False, reason=f"{wrong}, but its body is not JSON")
            for path, value in self.fields.items():
                found = _field(document, path)
                if found is _ABSENT:
                    return Finding(holds=False, reason=f"{wrong} without {path}, wanted {json.dumps(value)}")
                # As JSON: in Python `True == 1`, but a service that says true did not say 1.
                if json.dumps(found, sort_keys=True) != json.dumps(value, sort_keys=True):
                    mismatch = f"{path}={json.dumps(found)}, wanted {json.dumps(value)}"
                    return Finding(holds=False, reason=f"{wrong} with {mismatch}")
        return Finding(holds=True, reason=wrong)


def _field(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name, _ABSENT) if isinstance(document, dict) else _ABSENT
    return document


class Pods(BaseModel):
    """Which pods, and how many of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: Name = Field(description="Their namespace")
    labels: dict[str, str] = Field(min_length=1, description="Labels that they all have")
    at_least: int = Field(default=1, ge=0, description="How many must be ready")
    container: str = Field(default="", description="The container that `digest` is about")
    digest: str = Field(
        default="", pattern="^(sha256:[0-9a-f]{64})?$", description="Image that it must run in all of them"
    )

    @model_validator(mode="after")
    def _names_the_container(self) -> Pods:
        if bool(self.container) != bool(self.digest):
            raise ValueError("container and digest: one needs the other")
        return self


class PodsCheck(BaseModel):
    """Pods are ready: at least so many, and none of them is in trouble that waiting does not mend."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    client: ClassVar[type] = Kubernetes

    pods: Pods = Field(description="The pods of Kubernetes that must be ready")

    async def check_access(self, kube: Kubernetes) -> list[Problem]:
        found = await missing_rights(kube, self.pods.namespace, (("list", "Pod"),))
        if not found and not await kube.list("Pod", self.pods.namespace, self.pods.labels):
            labels = ", ".join(f"{k}={v}" for k, v in self.pods.labels.items())
            found.append(Problem(f"namespace {self.pods.namespace}", f"has no pod with {labels}", "correct the labels"))
        return found

    async def holds(self, kube: Kubernetes) -> Finding:
        found = await kube.list("Pod", self.pods.namespace, self.pods.labels)
        if trouble := next(filter(None, map(trouble_of, found)), ""):
            return Finding(holds=False, reason=trouble)
        ready = [pod for pod in found if is_ready(pod)]
        container, digest = self.pods.container, self.pods.digest
        if digest and (other := next(filter(None, (other_image(pod, container, digest) for pod in ready)), "")):
            return Finding(holds=False, reason=other)
        labels = ", ".join(f"{k}={v}" for k, v in self.pods.labels.items())
        counts = f"{len(ready)} of {len(found)} pods with {labels} are ready"
        return Finding(holds=len(ready) >= self.pods.at_least, reason=f"{counts}, wanted {self.pods.at_least}")


class Containers(BaseModel):
    """Which containers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: str = Field(min_length=1, description="Compose project")
    service: str = Field(min_length=1, description="Service in it")
    numbers: tuple[int, ...] = Field(default=(), description="Which of its containers; none means all")


class ContainersCheck(BaseModel):
    """Containers of a Compose service run, and are healthy where they have a HEALTHCHECK."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    client: ClassVar[type] = Docker

    containers: Containers = Field(description="The containers that must be healthy")

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
        wanted = self.containers.numbers
        if wanted:
            found = [c for c in found if int(c["Config"]["Labels"]["com.docker.compose.container-number"]) in wanted]
        states = {c["Name"].lstrip("/"): (c["State"].get("Health") or {}).get("Status", "running") for c in found}
        bad = [f"{name} is {state}" for name, state in states.items() if state not in ("healthy", "running", "none")]
        enough = len(found) >= max(len(wanted), 1)
        few = f"{len(found)} of {len(wanted) or 'its'} containers run"
        return Finding(
            holds=enough and not bad, reason="; ".join(bad) or (few if not enough else f"{', '.join(states)} run")
        )


_KEYS = ("promql", "http", "pods", "containers", "sql", "intact")
_Kinds = (
    Annotated[PromqlCheck, Tag("<promql>")]
    | Annotated[HttpCheck, Tag("<http>")]
    | Annotated[PodsCheck, Tag("<pods>")]
    | Annotated[ContainersCheck, Tag("<containers>")]
    | Annotated[SqlCheck, Tag("<sql>")]
    | Annotated[IntactCheck, Tag("<intact>")]
)

Check = Annotated[_Kinds, union_by_key("check", *_KEYS)]
"""The table of checks that exist; which one is meant is told by its first key."""

GateCheck = Annotated[
    _Kinds | Annotated[TroubleCheck, Tag("<trouble_of>")], union_by_key("check", *_KEYS, "trouble_of")
]
"""What a gate of a plan asks: also what no configuration names."""
