"""The ConfigMaps, Secrets and other objects that a pod template refers to."""

from __future__ import annotations

import asyncio
from datetime import datetime

from responder.backends.kubernetes.api import AccessDenied
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import Object, last_write, references_of, template_of, time_of
from responder.errors import StepFailed

_CONTENT = ("data", "binaryData")


async def notes_on_references(kube: Kubernetes, what: str, namespace: str, revision: Object) -> tuple[str, ...]:
    """What a plan says about the objects that the pods of a revision need.

    Raises StepFailed if one of them no longer exists, and Unavailable.
    """
    template, since = template_of(revision), revision["metadata"].get("creationTimestamp", "")
    required = set(references_of(template))
    wanted = sorted({*required, *references_of(template, optional=True)})
    denied: list[str] = []
    gone: list[str] = []
    changed: list[str] = []
    answers = await asyncio.gather(*(_get(kube, kind, namespace, name) for kind, name in wanted))
    for (kind, name), found in zip(wanted, answers, strict=True):
        if isinstance(found, AccessDenied):
            denied.append(f"{kind} {name}")
        elif found is None and (kind, name) in required:
            gone.append(f"{kind} {name}")
        elif found is not None and (change := _change_since(kind, found, since)):
            changed.append(f"{kind} {name} ({change})")
    if gone:
        raise StepFailed(f"the good version of {what} needs objects that no longer exist: {', '.join(gone)}")
    notes = []
    if denied:
        notes.append(f"cannot check whether {', '.join(denied)} still exist: permission denied")
    if changed:
        notes.append(
            f"the good version of {what} starts with configuration that changed since it was created at {since}: "
            f"{', '.join(changed)}"
        )
    return tuple(notes)


async def _get(kube: Kubernetes, kind: str, namespace: str, name: str) -> Object | AccessDenied | None:
    try:
        return await kube.get(kind, namespace, name)
    except AccessDenied as denied:
        return denied


def _change_since(kind: str, found: Object, since: str) -> str:
    """When and by whom the content of a ConfigMap or Secret changed after that time; empty if it did not.

    Times are whole seconds. A deployment may create the object and the revision within the same second.
    """
    if kind not in ("ConfigMap", "Secret"):
        return ""
    created = found["metadata"].get("creationTimestamp", "")
    at, author = max(((created, ""), *(last_write(found, part) for part in _CONTENT)))
    written, made, start = time_of(at), time_of(created), time_of(since)
    if written is None or start is None or not _is_later(written, made, start):
        return ""
    return f"at {at}" + (f" by {author}" if author else "")


def _is_later(written: datetime, made: datetime | None, start: datetime) -> bool:
    return written > start or (written == start and made is not None and made < written)
