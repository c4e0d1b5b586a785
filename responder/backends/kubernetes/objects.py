"""Reads Kubernetes objects the way that Kubernetes' own tools do. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import Field

from responder.backends.images import digest_of, tag_of

Object = dict[str, Any]
"""An object as the API server sent it."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""A valid Kubernetes name; it becomes a part of a URL."""

MANAGER, PREFIX = "rollback-responder", "rollback-responder.io"
"""The field manager, derived from the user agent by the API server; the prefix of all annotations and labels."""

_HOPELESS = {
    "ImagePullBackOff": "its image cannot be pulled",
    "InvalidImageName": "its image name is invalid",
    "ErrImageNeverPull": "its image is not on the node and must not be pulled",
    "CrashLoopBackOff": "it keeps crashing",
    "RunContainerError": "it cannot be started",
    "CreateContainerError": "it cannot be created",
    "CreateContainerConfigError": "an object that it needs is missing",
}
"""Reasons of a waiting container that waiting does not resolve, with an explanation."""


def owned_by(owner: Object, found: list[Object]) -> list[Object]:
    """The objects that this object controls, by UID: a name may be reused."""
    uid = owner["metadata"]["uid"]
    return [
        item
        for item in found
        if any(ref.get("controller") and ref["uid"] == uid for ref in item["metadata"].get("ownerReferences", ()))
    ]


def template_of(revision: Object) -> Object:
    """The pod template in a ReplicaSet or ControllerRevision, without the additions of their controllers."""
    if revision["kind"] == "ReplicaSet":
        template = dict(revision["spec"]["template"])
        meta = dict(template.get("metadata", {}))
        meta["labels"] = {k: v for k, v in meta.get("labels", {}).items() if k != "pod-template-hash"}
        return {**template, "metadata": meta}
    return {k: v for k, v in revision["data"]["spec"]["template"].items() if k != "$patch"}


def number_of(revision: Object) -> int:
    """The revision number; the highest is the newest."""
    if revision["kind"] == "ReplicaSet":
        return int(revision["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision", 0))
    return int(revision["revision"])


def same_template(template: Object, other: Object) -> bool:
    return _plain(template) == _plain(other)


def _plain(template: Object) -> Object:
    # On some paths an API server adds `creationTimestamp: null` and empty maps.
    meta = {k: v for k, v in (template.get("metadata") or {}).items() if v not in (None, {}, "")}
    return {**template, "metadata": meta}


def images_of(template: Object) -> dict[str, str]:
    spec = template["spec"]
    return {c["name"]: c["image"] for c in (*spec.get("initContainers", ()), *spec["containers"])}


def main_image(template: Object, container: str | None) -> str:
    """The image of the named container, or of the container that `kubectl logs` selects."""
    meta = template.get("metadata") or {}
    name = container or (meta.get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    containers = template["spec"]["containers"]
    return str(next((c["image"] for c in containers if c["name"] == name), "" if container else containers[0]["image"]))


def runs(template: Object, version: str, artifact: str, container: str | None) -> bool:
    """Whether a template is this version: by the artifact, the recommended label, or the tag of the image."""
    image = main_image(template, container)
    if artifact and (image == artifact or (digest_of(artifact) and digest_of(image) == digest_of(artifact))):
        return True
    if artifact and digest_of(artifact) and digest_of(image):
        return False  # two different digests
    labels = (template.get("metadata") or {}).get("labels") or {}
    return version in (labels.get("app.kubernetes.io/version"), tag_of(image))


def references_of(template: Object, *, optional: bool = False) -> Iterator[tuple[str, str]]:
    """The objects that the pods require to start, as kind and name. `optional`: also those that may be missing."""
    spec = template["spec"]
    if account := spec.get("serviceAccountName"):
        yield "ServiceAccount", account
    for volume in spec.get("volumes", ()):
        for source in (volume, *volume.get("projected", {}).get("sources", ())):
            yield from _named(source.get("configMap"), "ConfigMap", "name", optional)
            yield from _named(
                source.get("secret"), "Secret", "name" if source is not volume else "secretName", optional
            )
        yield from _named(volume.get("persistentVolumeClaim"), "PersistentVolumeClaim", "claimName", optional)
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        for source in container.get("envFrom", ()):
            yield from _named(source.get("configMapRef"), "ConfigMap", "name", optional)
            yield from _named(source.get("secretRef"), "Secret", "name", optional)
        for variable in container.get("env", ()):
            value = variable.get("valueFrom", {})
            yield from _named(value.get("configMapKeyRef"), "ConfigMap", "name", optional)
            yield from _named(value.get("secretKeyRef"), "Secret", "name", optional)


def _named(source: Object | None, kind: str, key: str, optional: bool) -> Iterator[tuple[str, str]]:
    if source and (optional or not source.get("optional")) and source.get(key):
        yield kind, source[key]


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def trouble_of(pod: Object) -> str:
    """Why this pod cannot become ready; empty if it still can, or if it is being deleted."""
    if pod["metadata"].get("deletionTimestamp"):
        return ""  # on a failed node, its last status stays
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container.get("state", {}).get("waiting") or {}
        if (reason := waiting.get("reason", "")) not in _HOPELESS:
            continue
        last = (container.get("lastState") or {}).get("terminated") or {}
        details = [waiting.get("message", ""), f"it exited with {last['exitCode']}" if "exitCode" in last else ""]
        more = "; ".join(part for part in details if part)
        where = f"pod {pod['metadata']['name']}, container {container['name']} ({container['image']})"
        return f"{where}: {_HOPELESS[reason]} ({reason}{': ' + more if more else ''})"
    return ""


def other_image(pod: Object, container: str, digest: str) -> str:
    """The image of this container if it differs from the digest; empty if it does not, or is unknown."""
    for container_status in pod.get("status", {}).get("containerStatuses", ()):
        if container_status["name"] == container and (
            runs_now := digest_of(container_status.get("imageID", ""))
        ) not in ("", digest):
            return f"pod {pod['metadata']['name']} runs {runs_now}, but the good version is {digest}"
    return ""


def condition(workload: Object, kind: str) -> Object:
    found = workload.get("status", {}).get("conditions", ())
    return next((c for c in found if c["type"] == kind), {})


def counts_of(workload: Object) -> tuple[int, int]:
    """The desired and the available pods of a DaemonSet or StatefulSet."""
    spec, status = workload["spec"], workload.get("status", {})
    if workload["kind"] == "DaemonSet":
        return status.get("desiredNumberScheduled", 0), status.get("numberAvailable", 0)
    return spec.get("replicas", 1), status.get("availableReplicas", 0)


def unfinished(workload: Object) -> str:
    """What a rollout still waits for, as in `kubectl rollout status`; empty if it is complete."""
    status = workload.get("status", {})
    if workload["metadata"]["generation"] > status.get("observedGeneration", 0):
        return "the controller has not seen the change yet"
    desired, available = counts_of(workload)
    if workload["kind"] == "DaemonSet":
        updated = total = status.get("updatedNumberScheduled", 0)
    else:
        updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    if updated < desired:
        return f"{updated} of {desired} pods are updated"
    if total > updated:
        return f"{total - updated} old pods still exist"
    return f"{available} of {updated} updated pods are available" if available < updated else ""


_SKEW = timedelta(seconds=2)
"""Tolerated difference between the clocks of the API server and the controllers; both write whole seconds."""


def failure_of(deployment: Object, revision: Object, pods: int = 0) -> str:
    """Why the rollout of this current ReplicaSet failed; empty if it did not. `pods`: how many it has.

    Conditions are stale for some hundred milliseconds, and longer without progress: a Deployment then shows those of
    the previous ReplicaSet. Only a condition that names this ReplicaSet and is newer than its template counts.
    """
    name, since = revision["metadata"]["name"], time_of(last_write(deployment, "spec", "template")[0])
    status = revision.get("status", {})
    failure = condition(revision, "ReplicaFailure")
    if status.get("observedGeneration", 0) < revision["metadata"].get("generation", 0):
        failure = {}
    if not failure and f'"{name}-' in str(condition(deployment, "ReplicaFailure").get("message")):
        failure = condition(deployment, "ReplicaFailure")
    denied = ""
    # If all pods exist, the conditions disappear with the next sync of each controller.
    missing = max(status.get("replicas", 0), pods) < revision["spec"].get("replicas", 1)
    if missing and failure.get("status") == "True" and _is_new(failure, since):
        denied = f"no pod can be created: {failure.get('message', '')}"
    progress = condition(deployment, "Progressing")
    message = str(progress.get("message") or "")
    if progress.get("reason") == "ProgressDeadlineExceeded" and f'"{name}"' in message and _is_new(progress, since):
        return f"{message} {denied}".strip()
    return denied


def names(workload: Object, revision: str) -> bool:
    """Whether the condition Progressing names this ReplicaSet."""
    return f'"{revision}"' in str(condition(workload, "Progressing").get("message"))


def _is_new(found: Object, since: datetime | None) -> bool:
    at = time_of(found.get("lastUpdateTime") or found.get("lastTransitionTime") or "")
    return at is None or since is None or at >= since - _SKEW


def time_of(text: str) -> datetime | None:
    """The time in this text; None if there is none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def writer_of(workload: Object, *path: str) -> str:
    """The last writer of a field, from `managedFields`; empty if unknown."""
    return last_write(workload, *path)[1]


def last_write(workload: Object, *path: str) -> tuple[str, str]:
    """Time and author of the last change of a field. Within the same second, another author than the responder."""
    latest = ("", False, "")
    for entry in workload["metadata"].get("managedFields", ()):
        fields: Any = entry.get("fieldsV1", {})
        for part in path:
            fields = fields.get(f"f:{part}") if isinstance(fields, dict) else None
        if fields is not None:
            latest = max(latest, (entry.get("time", ""), entry.get("manager") != MANAGER, entry.get("manager", "")))
    return latest[0], latest[2]


def escape(key: str) -> str:
    """A key as a part of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def annotate(found: Object, **annotations: str) -> list[Object]:
    """The JSON patch operations that set these annotations of the responder and keep all others."""
    return set_annotations(found, {f"{PREFIX}/{key}": value for key, value in annotations.items()})


def set_annotations(found: Object, annotations: Mapping[str, str | None]) -> list[Object]:
    """The JSON patch operations that set these annotations, or remove them if None, and keep all others."""
    present = found["metadata"].get("annotations") or {}
    operations: list[Object] = []
    if not present and any(value is not None for value in annotations.values()):
        operations.append({"op": "add", "path": "/metadata/annotations", "value": {}})
    for key, value in annotations.items():
        path = f"/metadata/annotations/{escape(key)}"
        if value is not None:
            operations.append({"op": "add", "path": path, "value": value})
        elif key in present:
            operations.append({"op": "remove", "path": path})
    return operations


def note(found: Object, key: str, mark: str, before: object, after: object) -> list[Object]:
    """The operations that annotate an object with a change of this execution; its revert removes the annotation."""
    reverted = is_reverted(found, key, mark, after)
    return set_annotations(found, {f"{PREFIX}/{key}": None if reverted else _noted(mark, before, after)})


_CAUSE, _CAUSE_BEFORE = "kubernetes.io/change-cause", f"{PREFIX}/change-cause-before"


def note_template(found: Object, mark: str, before: str, after: str) -> list[Object]:
    """As `note` for a pod template, with the cause that `kubectl rollout history` shows."""
    known, text = found["metadata"].get("annotations") or {}, _noted(mark, before, after)
    if is_reverted(found, "rolled-back", mark, after):
        wanted = {f"{PREFIX}/rolled-back": None, _CAUSE: known.get(_CAUSE_BEFORE), _CAUSE_BEFORE: None}
    else:
        wanted = {f"{PREFIX}/rolled-back": text, _CAUSE: text, _CAUSE_BEFORE: known.get(_CAUSE)}
    return set_annotations(found, wanted)


def is_reverted(found: Object, key: str, mark: str, after: object) -> bool:
    """Whether this execution changed the object, from the value that it writes now."""
    known = (found["metadata"].get("annotations") or {}).get(f"{PREFIX}/{key}", "")
    return bool(known.startswith(_noted(mark, after, "")))


def _noted(mark: str, before: object, after: object) -> str:
    return f"rollback {mark}: {before} → {after}"
