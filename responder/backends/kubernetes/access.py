"""The permissions that this account lacks in a namespace, by SelfSubjectAccessReview."""

from __future__ import annotations

import asyncio

from responder.backends.kubernetes.client import Kubernetes
from responder.backends.problems import Problem

Right = tuple[str, str] | tuple[str, str, str]
"""A verb, a kind and, if it applies, a subresource."""


async def missing_rights(kube: Kubernetes, namespace: str, rights: tuple[Right, ...]) -> list[Problem]:
    """One problem that lists all missing permissions; empty if none is missing. Raises StepFailed and Unavailable."""
    allowed = await asyncio.gather(*(kube.may(right[0], right[1], namespace, *right[2:]) for right in rights))
    missing = [
        f"{right[0]} {right[1]}s{''.join(f'/{sub}' for sub in right[2:])}"
        for right, may in zip(rights, allowed, strict=True)
        if not may
    ]
    if not missing:
        return []
    fix = "grant the Role of deploy/kubernetes/rights"
    return [
        Problem("Kubernetes permissions", f"the responder's account cannot {', '.join(missing)} in {namespace}", fix)
    ]
