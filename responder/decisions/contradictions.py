"""Mistakes in the policies and freeze windows of a configuration that none of them can see alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from foundation.yaml_document import Mistake
from responder.backends.alertmanager.matchers import all_match
from responder.config.text import meant
from responder.decisions.freeze_windows import Freeze
from responder.decisions.policies import Policy
from responder.services.service import Service


def policy_contradictions(
    policies: Sequence[Policy], services: Sequence[Service], *, evidence: bool
) -> Iterator[Mistake]:
    """Duplicate names, unknown services, logs that cannot be preserved, and silences of a policy's own alerts.

    `evidence`: whether there is a place to store evidence.
    """
    for i, policy in enumerate(policies):
        if any(policy.name == earlier.name for earlier in policies[:i]):
            yield ("policies", i, "name"), f"duplicate name {policy.name}"
        for mistakes in (_services(policy, services), _logs(policy, services, evidence=evidence), _silences(policy)):
            yield from ((("policies", i, *path), problem) for path, problem in mistakes)


def freeze_contradictions(freezes: Sequence[Freeze], services: Sequence[Service]) -> Iterator[Mistake]:
    """Services that are not configured."""
    for i, freeze in enumerate(freezes):
        for j, name in enumerate(freeze.services):
            yield from _known(("freezes", i, "services", j), name, {service.name for service in services})


def _services(policy: Policy, services: Sequence[Service]) -> Iterator[Mistake]:
    for action in policy.actions:
        named = getattr(policy, action)
        for j, name in enumerate(named if isinstance(named, tuple) else ()):
            yield from _known((action, j), name, {service.name for service in services})


def _logs(policy: Policy, services: Sequence[Service], *, evidence: bool) -> Iterator[Mistake]:
    if policy.preserve_logs is not None and not evidence:
        yield ("preserve_logs",), "no place to store the logs: configure `evidence`"
    for j, name in enumerate(policy.preserve_logs if isinstance(policy.preserve_logs, tuple) else ()):
        candidates = [service for service in services if service.name == name]
        if candidates and not any(service.logs for service in candidates):
            yield ("preserve_logs", j), f"service {name} has no `logs` to preserve"


def _silences(policy: Policy) -> Iterator[Mistake]:
    fixed = {matcher.name: matcher.value for matcher in policy.match if matcher.op == "="}
    for j, collateral in enumerate(policy.silence_collateral):
        if all_match(collateral.match, fixed):
            yield ("silence_collateral", j), "silences the alerts that the policy matches"


def _known(path: tuple[int | str, ...], name: str, known: Collection[str]) -> Iterator[Mistake]:
    if name not in known:
        yield path, f"no service {name} is configured{meant(name, known)}"
