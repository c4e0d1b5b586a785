"""The Services that send traffic to a workload."""

from __future__ import annotations

from responder.backends.kubernetes.client import Kubernetes


async def services_only_on(kube: Kubernetes, namespace: str, failed: dict[str, str], good: dict[str, str]) -> list[str]:
    """The names of the Services that select the failed pods by these labels, and not the good ones.

    Raises StepFailed and Unavailable.
    """
    found = {
        service["metadata"]["name"]: service.get("spec", {}).get("selector") or {}
        for service in await kube.list("Service", namespace)
    }
    return [
        name
        for name, selector in sorted(found.items())
        if selector and selector.items() <= failed.items() and not selector.items() <= good.items()
    ]
