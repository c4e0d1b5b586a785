"""The HTTP API of Kubernetes: the paths of its kinds, and the meaning of its answers.

The status alone decides: a proxy may write the body, and for an API group that is not installed the server answers
`404 page not found` in plain text.
"""

from __future__ import annotations

import json
from typing import Any

from responder.backends.kubernetes.objects import Object
from responder.config.text import one_line
from responder.errors import Outdated, StepFailed, Unavailable

HOMES = {
    "Pod": "api/v1",
    "Event": "api/v1",
    "Service": "api/v1",
    "ConfigMap": "api/v1",
    "Secret": "api/v1",
    "ServiceAccount": "api/v1",
    "PersistentVolumeClaim": "api/v1",
    "Node": "api/v1",
    "Deployment": "apis/apps/v1",
    "ReplicaSet": "apis/apps/v1",
    "StatefulSet": "apis/apps/v1",
    "DaemonSet": "apis/apps/v1",
    "ControllerRevision": "apis/apps/v1",
    "EndpointSlice": "apis/discovery.k8s.io/v1",
    "HorizontalPodAutoscaler": "apis/autoscaling/v2",
    "Application": "apis/argoproj.io/v1alpha1",
    "Rollout": "apis/argoproj.io/v1alpha1",
    "HelmRelease": "apis/helm.toolkit.fluxcd.io/v2",
    "Canary": "apis/flagger.app/v1beta1",
    "ScaledObject": "apis/keda.sh/v1alpha1",
}
ALWAYS = ("api/v1", "apis/apps/v1", "apis/discovery.k8s.io/v1", "apis/autoscaling/v2")
"""API groups that every cluster serves. The other kinds exist only where they are installed."""


def many(kind: str) -> str:
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


def plural(kind: str) -> str:
    """The kind in a path."""
    return many(kind).lower()


def path_of(kind: str, namespace: str, name: str = "") -> str:
    within = f"namespaces/{namespace}/" if namespace else ""  # nodes have no namespace
    return f"/{HOMES[kind]}/{within}{plural(kind)}{'/' + name if name else ''}"


_SHOWN = 200
"""Characters of a body that is not JSON."""


class AccessDenied(StepFailed):
    """The API server denies a request of this account."""


def decoded(body: bytes) -> Any:
    """The JSON object of a body. Any other body becomes an object with only a `message`."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = body.decode(errors="replace")
    return found if isinstance(found, dict) else {"message": one_line(str(found).strip(), _SHOWN)}


def failure(status: int, answer: Object, retry_after: float = 0.0) -> Unavailable:
    """The error for a status that a retry may resolve."""
    return Unavailable(f"the Kubernetes API answered {status}: {_message(answer)}", retry_after=retry_after)


def is_temporary(status: int) -> bool:
    return status in (408, 429) or status >= 500


def good(status: int, answer: Object, what: str, /, **shape: type) -> Object:
    """Returns the answer of a successful request. `shape`: keys that it must have, with their types.

    Raises Forbidden, Unavailable if a retry may succeed, else StepFailed.
    """
    if 200 <= status < 300:
        if missing := [key for key, kind in shape.items() if not isinstance(answer.get(key), kind)]:
            shown = one_line(answer.get("message") or answer, _SHOWN)
            raise Unavailable(f"{what}: the Kubernetes API answered {status} without {', '.join(missing)}: {shown}")
        return answer
    message = _message(answer)
    match status:
        case 401 | 403:
            raise AccessDenied(f"{what}: the cluster denies access ({status}): {message}")
        case 409:
            raise Outdated(f"{what} was changed at the same time (409): {message}")
        case 410:
            raise Outdated(f"{what}: the list expired while it was read (410): {message}")
    if is_temporary(status):
        raise failure(status, answer)
    raise StepFailed(f"{what}: the Kubernetes API answered {status}: {message}")


def _message(answer: Object) -> str:
    message = answer.get("message")
    return one_line(message, _SHOWN * 5) if isinstance(message, str) and message else "(no message)"


def items(status: int, answer: Object, what: str) -> list[Object]:
    """Returns the objects of a list. Raises like `good`."""
    found = good(status, answer, what, items=list)["items"]
    if not all(isinstance(item, dict) for item in found):
        raise Unavailable(f"{what}: the Kubernetes API answered {status} with items that are not objects")
    return list(found)
