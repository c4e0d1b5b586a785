"""The permissions that this account lacks in a namespace, or in the cluster, by SelfSubjectAccessReview."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from responder.backends.kubernetes.api import many
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.problems import Problem


class Right(NamedTuple):
    """A permission that a plan or its execution uses.

    `name`: of the object; a Role may grant `get` and `patch` for single objects. Empty: any object of the kind.
    """

    verb: str
    kind: str
    name: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        if self.name:
            return f"{self.verb} {self.kind} {self.name}"
        return f"{self.verb} {many(self.kind)}{'/' if self.subresource else ''}{self.subresource}"


async def missing_rights(kube: Kubernetes, namespace: str, rights: Iterable[Right]) -> list[Problem]:
    """One problem that lists all missing permissions; empty if none is missing. Namespace "" is the cluster.

    Raises StepFailed and Unavailable.
    """
    rights = list(dict.fromkeys(rights))
    allowed = await asyncio.gather(
        *(kube.may(right.verb, right.kind, namespace, right.name, right.subresource) for right in rights)
    )
    missing = [str(right) for right, may in zip(rights, allowed, strict=True) if not may]
    if not missing:
        return []
    lacks = f"the responder's account cannot {', '.join(missing)} in {namespace or 'the cluster'}"
    role = (
        "Role of deploy/kubernetes/rights (Helm: rights.namespaces)"
        if namespace
        else "ClusterRole of deploy/kubernetes/nodes.yaml (Helm: rights.nodes)"
    )
    return [Problem("Kubernetes permissions", lacks, f"grant the {role}")]
