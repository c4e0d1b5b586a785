"""The permissions to look at what surrounds a workload."""

from __future__ import annotations

from responder.backends.kubernetes.access import Right, missing_rights
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import Object, references_of, template_of
from responder.backends.kubernetes.workload import SCALERS, Workload
from responder.backends.problems import Problem


async def missing_rights_to_look(kube: Kubernetes, workload: Workload, revisions: list[Object]) -> list[Problem]:
    """The permissions that this account lacks.

    A plan only notes what it could not see. Raises StepFailed and Unavailable.
    """
    templates = map(template_of, revisions)
    needed = sorted({needed for template in templates for needed in references_of(template, optional=True)})
    # Not Secrets: `get` would also allow to read them, so the Role leaves them out.
    rights = [Right("get", kind, name) for kind, name in needed if kind != "Secret"]
    if not workload.daemonset:
        rights += [Right("list", kind) for kind in SCALERS if await kube.serves(kind)]
    # Pods of a Deployment are replaced on other nodes.
    cluster_wide = () if workload.deployment else (Right("get", "Node"),)
    return [
        *await missing_rights(kube, workload.namespace, rights),
        *await missing_rights(kube, "", cluster_wide),
    ]
