"""Where the logs of a service are: each kind knows what there is to read, and reads no more than it is allowed to."""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, Tag, field_validator, model_validator

from responder.backends.docker.client import Docker
from responder.backends.host.access import user
from responder.backends.host.logs_client import Host, LogFile
from responder.backends.kubernetes.access import Right, missing_rights
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import Name, Object
from responder.backends.problems import Problem
from responder.config.durations import Duration
from responder.config.sizes import Size
from responder.config.unions import union_by_key
from responder.errors import StepFailed, Unavailable

_LINES = 20_000
"""Asked for of each log that is kept in lines: the newest. The cap in bytes is on top of it."""

_HEAD = 64
"""Bytes that the name of one of the usual files takes at most."""

_TRIED = 5
"""Logs of a source that are tried beforehand."""

_EVER = datetime(2000, 1, 1, tzinfo=UTC)

MOST_LOGS = 30
"""Logs of one source; whichever were written last, or fare worst, come first."""


class Skipped(NamedTuple):
    """Of a log that is longer than its cap, what was passed over before the end of it."""

    bytes: int


Chunks = AsyncGenerator[bytes | Skipped, None]


async def _newest(lines: AsyncGenerator[bytes, None]) -> Chunks:
    """All of them. Raises Halt at their end where there may have been more: nobody says so himself."""
    count = 0
    async with contextlib.aclosing(lines) as chunks:
        async for chunk in chunks:
            count += chunk.count(b"\n")
            yield chunk
    if count >= _LINES:
        raise StepFailed(f"only its newest {_LINES} lines were asked for")


class Log(NamedTuple):
    """One log that a source has. Nothing of it is read before `chunks` is asked for."""

    name: str  # made into a file name
    origin: str  # for people
    chunks: Callable[[], Chunks]
    suffix: str = "log"


class Source(BaseModel, ABC):
    """Logs of one kind. Its verb is handed the connected `client` that it names."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    client: ClassVar[type[Any]]

    cap: Size = Field(
        default=4 << 20, ge=1 << 10, le=64 << 20, description="Kept of each of its logs; of a longer one, the end"
    )
    within: Duration = Field(
        default=5.0, gt=0, description="Longest time for the whole source; what came by then is kept"
    )

    @abstractmethod
    async def logs(self, client: Any, since: datetime) -> list[Log]:
        """What there is to read, the most telling first. Raises Halt and Unavailable."""

    @abstractmethod
    async def check_access(self, client: Any) -> list[Problem]:
        """Why its logs could not be kept. Reads the beginning of some. Raises Halt and Unavailable."""

    async def _unreadable(self, client: Any, since: datetime, fix: str) -> list[Problem]:
        problems = []
        for log in (await self.logs(client, since))[:_TRIED]:
            try:
                async with contextlib.aclosing(log.chunks()) as chunks:
                    await anext(chunks, b"")
            except (StepFailed, Unavailable) as e:
                problems.append(Problem(log.origin, str(e), fix))
        return problems


class FileLogs(Source):
    """Files of this host. Of each that was written in the time of interest the end is kept, of `.gz` unpacked."""

    client: ClassVar[type[Any]] = Host

    file: str = Field(description="Absolute path, with * ? [] and ** for rotated ones, as /var/log/backend/*.log*")

    @field_validator("file")
    @classmethod
    def _is_absolute(cls, value: str) -> str:
        if not value.startswith("/") or "\0" in value or value.endswith("/"):
            raise ValueError(f"{value!r} must be an absolute path of files")
        return value

    def __str__(self) -> str:
        return f"file {self.file}"

    async def logs(self, client: Host, since: datetime) -> list[Log]:
        found = await client.files(self.file)
        if not found:
            raise StepFailed("no file matches")
        fresh = [file for file in found if file.problem or file.at >= since]
        if not fresh:
            raise StepFailed(f"{len(found)} files match, none written since {since:%Y-%m-%d %H:%M:%S} UTC")
        return [Log(file.path.name.removesuffix(".gz"), str(file.path), self._reading(client, file)) for file in fresh]

    async def check_access(self, client: Host) -> list[Problem]:
        if not await client.files(self.file):
            return [Problem(str(self), "no file matches", "correct the path, or give this user the right to list it")]
        return await self._unreadable(client, _EVER, f"give this user ({user()}) the right to read it")

    def _reading(self, host: Host, file: LogFile) -> Callable[[], Chunks]:
        async def chunks() -> Chunks:
            if file.problem:
                raise StepFailed(file.problem)
            end = await host.tail(file, self.cap)
            yield Skipped(end.size - len(end.data))
            yield end.data
            if end.renewed:
                raise StepFailed("it was rotated before it was read: what it held until then is not in it")

        return chunks


class JournaldUnit(BaseModel):
    """Which part of the systemd journal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str = Field(
        pattern=r"^[A-Za-z0-9:_.@\\][-A-Za-z0-9:_.@\\*]*$", description="As backend.service; * for several"
    )
    user: bool = Field(default=False, description="A unit of a user's own service manager")


class JournaldLogs(Source):
    """What a systemd unit of this host wrote. The user that runs the responder is in the group systemd-journal."""

    client: ClassVar[type[Any]] = Host

    journald: JournaldUnit = Field(description="{unit: backend.service}")

    def __str__(self) -> str:
        return f"journald {self.journald.unit}"

    async def logs(self, client: Host, since: datetime) -> list[Log]:
        unit = f"--{'user-' if self.journald.user else ''}unit={self.journald.unit}"
        name = f"journald-{self.journald.unit}"
        return [Log(name, str(self), lambda: _newest(client.journal(since, _LINES, unit)))]

    async def check_access(self, client: Host) -> list[Problem]:
        (log,) = await self.logs(client, _EVER)
        async with contextlib.aclosing(log.chunks()) as chunks:
            if await anext(chunks, b""):
                return []
        fix = f"correct the name of the unit, or add this user ({user()}) to the group systemd-journal"
        return [Problem(str(self), "the journal has no entry of it", fix)]


class SystemLogs(Source):
    """The log of this whole host, kernel included: the journal, or where there is none the usual files."""

    client: ClassVar[type[Any]] = Host

    system: Literal[True] = Field(description="true")

    def __str__(self) -> str:
        return "system"

    async def logs(self, client: Host, since: datetime) -> list[Log]:
        async def chunks() -> Chunks:
            has_output = False
            try:
                async with contextlib.aclosing(_newest(client.journal(since, _LINES))) as entries:
                    async for chunk in entries:
                        has_output = True
                        yield chunk
                return
            except StepFailed as e:
                if has_output:
                    raise
                without = e
            usual = [f for name in ("syslog", "messages", "kern.log") for f in await client.files(f"/var/log/{name}")]
            if not usual:
                raise StepFailed(f"{without}, and there is no /var/log/syslog, messages or kern.log")
            ends = [await client.tail(file, self.cap // len(usual) - _HEAD) for file in usual]
            if left_out := sum(end.size - len(end.data) for end in ends):
                yield Skipped(left_out)
                yield b"\n"  # the first line of what is not whole is left out
            for file, end in zip(usual, ends, strict=True):
                yield f"==> {file.path} <==\n".encode() + end.data

        return [Log("system", "system log", chunks)]

    async def check_access(self, client: Host) -> list[Problem]:
        fix = f"add this user ({user()}) to the groups systemd-journal and adm"
        return await self._unreadable(client, datetime.now(UTC) - timedelta(minutes=10), fix)


class DockerPlace(BaseModel):
    """A Compose service, or one container by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: str | None = Field(default=None, min_length=1, description="Compose project")
    service: str | None = Field(default=None, min_length=1, description="Service of it")
    container: str | None = Field(
        default=None, pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Instead: a container's name"
    )

    @model_validator(mode="after")
    def _names_one(self) -> DockerPlace:
        if (self.container is None) == (self.project is None) or (self.project is None) != (self.service is None):
            raise ValueError("needs project and service, or container")
        return self


class DockerLogs(Source):
    """What containers wrote, also those that have ended, and the state that each is in."""

    client: ClassVar[type[Any]] = Docker

    docker: DockerPlace = Field(description="{project: shop, service: backend}, or {container: name}")

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
            _as_json("docker-containers", "the state of the containers", states),
            *(
                Log(f"docker-{name}", f"container {name}", _log_of(client, container["Id"], since))
                for container in found
                for name in [container["Name"].lstrip("/")]
            ),
        ]

    async def check_access(self, client: Docker) -> list[Problem]:
        return await self._unreadable(client, _EVER, "use the logging driver json-file, local or journald")


def _log_of(docker: Docker, container: str, since: datetime) -> Callable[[], Chunks]:
    return lambda: _newest(docker.log(container, since=since, lines=_LINES))


class PodPlace(BaseModel):
    """Pods by their labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: Name | None = Field(default=None, description="By default the one that the service is rolled back in")
    selector: str = Field(
        pattern=r"^[-A-Za-z0-9_./]+(=[-A-Za-z0-9_.]*)?(,[-A-Za-z0-9_./]+(=[-A-Za-z0-9_.]*)?)*$",
        description="Labels, as app=backend,tier=web",
    )
    previous: bool = Field(default=True, description="Also what a container said before it was restarted")
    events: bool = Field(default=True, description="Also the events of these pods and of what owns them")


class PodLogs(Source):
    """What the containers of pods wrote, also before their last restart, with the pods' states and events."""

    client: ClassVar[type[Any]] = Kubernetes

    kubernetes: PodPlace = Field(description="{selector: app=backend}")

    def __str__(self) -> str:
        return f"kubernetes {self.kubernetes.selector}"

    def in_namespace(self, namespace: str) -> PodLogs:
        """The same with a namespace, unless it has one of its own."""
        if self.kubernetes.namespace is not None:
            return self
        return self.model_copy(update={"kubernetes": self.kubernetes.model_copy(update={"namespace": namespace})})

    async def logs(self, client: Kubernetes, since: datetime) -> list[Log]:
        settings, namespace = self.kubernetes, self.kubernetes.namespace or ""
        pods = await client.list("Pod", namespace, selector=settings.selector)
        pods.sort(key=lambda pod: (-_restarts(pod), pod["metadata"]["name"]))
        found = [_as_json("kubernetes-pods", f"the pods {settings.selector}", [_state_of(pod) for pod in pods])]
        if settings.events:

            async def event_lines() -> Chunks:
                names = _concerned(pods)
                events = [e for e in await client.events(namespace) if _about(e) in names]
                yield "".join(map(_line, sorted(events, key=_when))).encode()

            found.append(Log("kubernetes-events", f"the events of {settings.selector}", event_lines))
        for pod in pods:
            name, status = pod["metadata"]["name"], pod.get("status", {})
            for container in (*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())):
                runs = [True, False] if settings.previous and container.get("restartCount", 0) else [False]
                for previous in runs:
                    read_log = _saying(client, namespace, name, container["name"], since, previous)
                    when = "-previous" if previous else ""
                    origin = f"pod {name}, container {container['name']}{', before its restart' if previous else ''}"
                    found.append(Log(f"pod-{name}-{container['name']}{when}", origin, read_log))
        return found

    async def check_access(self, client: Kubernetes) -> list[Problem]:
        settings, namespace = self.kubernetes, self.kubernetes.namespace or ""
        wanted: tuple[Right, ...] = ("list", "Pod"), ("get", "Pod", "log")
        rights = (*wanted, *((("list", "Event"),) if settings.events else ()))
        if problems := await missing_rights(client, namespace, rights):
            return problems
        if not await client.list("Pod", namespace, selector=settings.selector):
            return [Problem(str(self), f"no pod in {namespace} has these labels", "correct the selector")]
        return []


def _saying(
    client: Kubernetes, namespace: str, pod: str, container: str, since: datetime, previous: bool
) -> Callable[[], Chunks]:
    return lambda: _newest(client.log(namespace, pod, container, since=since, lines=_LINES, previous=previous))


def _restarts(pod: Object) -> int:
    return sum(status.get("restartCount", 0) for status in pod.get("status", {}).get("containerStatuses", ()))


def _state_of(pod: Object) -> Object:
    """Without its environment and arguments, which may hold secrets."""
    meta, spec = pod["metadata"], pod.get("spec", {})
    kept = {
        key: meta.get(key) for key in ("name", "labels", "creationTimestamp", "deletionTimestamp", "ownerReferences")
    }
    return {**kept, "node": spec.get("nodeName"), "status": pod.get("status", {})}


def _concerned(pods: list[Object]) -> set[str]:
    """Names of the pods, of what owns them, and of the workload whose ReplicaSets those owners are."""
    names = {pod["metadata"]["name"] for pod in pods}
    for pod in pods:
        for owner in pod["metadata"].get("ownerReferences", ()):
            names |= {owner["name"], owner["name"].rpartition("-")[0]}
    return names - {""}


def _about(event: Object) -> str:
    return str((event.get("involvedObject") or event.get("regarding") or {}).get("name", ""))


def _when(event: Object) -> str:
    series = event.get("series") or {}
    timestamp = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(timestamp or event["metadata"].get("creationTimestamp", ""))


def _line(event: Object) -> str:
    about = event.get("involvedObject") or {}
    count = (event.get("series") or {}).get("count") or event.get("count") or 1
    times = f" (x{count})" if count > 1 else ""
    what = f"{about.get('kind', '')}/{about.get('name', '')}"
    message = " ".join(str(event.get("message", "")).split())
    return f"{_when(event)} {event.get('type', '')} {event.get('reason', '')} {what}: {message}{times}\n"


def _as_json(name: str, origin: str, value: Any) -> Log:
    async def chunks() -> Chunks:
        yield json.dumps(value, indent=1, default=str).encode()

    return Log(name, origin, chunks, "json")


LogSource = Annotated[
    Annotated[PodLogs, Tag("<kubernetes>")]
    | Annotated[FileLogs, Tag("<file>")]
    | Annotated[JournaldLogs, Tag("<journald>")]
    | Annotated[DockerLogs, Tag("<docker>")]
    | Annotated[SystemLogs, Tag("<system>")],
    union_by_key("log source", "kubernetes", "file", "journald", "docker", "system"),
]
"""The table of sources that exist; which one is meant is told by its first key."""
