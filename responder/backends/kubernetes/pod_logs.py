"""Logs, states and events of pods."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pydantic import Field

from foundation.models import StrictModel
from responder.backends.kubernetes.access import Right, missing_rights
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import Name, Object
from responder.backends.log_source import MAX_LINES, Chunks, Log, LogSource, as_json, newest
from responder.backends.problems import Problem


class PodSelector(StrictModel):
    """Pods by label."""

    namespace: Name | None = Field(default=None, description="Namespace; default: that of the rollback")
    selector: str = Field(
        pattern=r"^[-A-Za-z0-9_./]+(=[-A-Za-z0-9_.]*)?(,[-A-Za-z0-9_./]+(=[-A-Za-z0-9_.]*)?)*$",
        description="Label selector, such as app=backend,tier=web",
    )
    previous: bool = Field(default=True, description="Also keep logs from before the last restart")
    events: bool = Field(default=True, description="Also keep events of these pods and their owners")


class PodLogs(LogSource[Kubernetes]):
    """Logs of the containers of pods, also from before their last restart, with the states and events of the pods."""

    kubernetes: PodSelector = Field(description="Pods, such as {selector: app=backend}")

    def __str__(self) -> str:
        return f"kubernetes {self.kubernetes.selector}"

    def in_namespace(self, namespace: str) -> PodLogs:
        """This source with the namespace as its default."""
        if self.kubernetes.namespace is not None:
            return self
        return self.model_copy(update={"kubernetes": self.kubernetes.model_copy(update={"namespace": namespace})})

    async def logs(self, client: Kubernetes, since: datetime) -> list[Log]:
        settings, namespace = self.kubernetes, self.kubernetes.namespace or ""
        pods = await client.list("Pod", namespace, selector=settings.selector)
        pods.sort(key=lambda pod: (-_restarts(pod), pod["metadata"]["name"]))
        found = [as_json("kubernetes-pods", f"the pods {settings.selector}", [_state_of(pod) for pod in pods])]
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
        rights = [Right("list", "Pod"), Right("get", "Pod", subresource="log")]
        rights += [Right("list", "Event")] if settings.events else []
        if problems := await missing_rights(client, namespace, rights):
            return problems
        if not await client.list("Pod", namespace, selector=settings.selector):
            return [Problem(str(self), f"no pod in {namespace} has these labels", "correct the selector")]
        return []


def _saying(
    client: Kubernetes, namespace: str, pod: str, container: str, since: datetime, previous: bool
) -> Callable[[], Chunks]:
    return lambda: newest(client.log(namespace, pod, container, since=since, lines=MAX_LINES, previous=previous))


def _restarts(pod: Object) -> int:
    return sum(status.get("restartCount", 0) for status in pod.get("status", {}).get("containerStatuses", ()))


def _state_of(pod: Object) -> Object:
    """The state of a pod, without environment and arguments, which may contain secrets."""
    meta, spec = pod["metadata"], pod.get("spec", {})
    kept = {
        key: meta.get(key) for key in ("name", "labels", "creationTimestamp", "deletionTimestamp", "ownerReferences")
    }
    return {**kept, "node": spec.get("nodeName"), "status": pod.get("status", {})}


def _concerned(pods: list[Object]) -> set[str]:
    """Names of the pods, of their owners, and of the workload that owns those."""
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
