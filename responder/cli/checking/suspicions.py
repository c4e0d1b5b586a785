"""Settings that are valid, but hardly meant: they would be without effect, or have another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from foundation.configuration.yaml_document import Mistake, YamlDocument
from foundation.durations import format_duration
from responder.app.settings import Config
from responder.backends.alertmanager.matchers import Matcher
from responder.decisions.policies import Policy

_ALWAYS = ((".*", "=~"), (".+", "=~"), ("", "!="))
"""Expressions that match every alert if the label is `alertname`, which no alert lacks."""


def suspicions(config: Config, document: YamlDocument) -> Iterator[Mistake]:
    """All of them, each with its path."""
    yield from _unreachable(config.policies)
    for n, policy in enumerate(config.policies):
        if policy.mode == "auto" and not policy.force and policy.cooldown == 0:
            after = format_duration(Policy.model_fields["cooldown"].default)
            yield ("policies", n, "cooldown"), f"no pause between automatic rollbacks; set it, for example to {after}"
    for i, service in enumerate(config.services):
        for key in ("health_checks", "traffic_checks"):
            for j in range(len(getattr(service, key))):
                yield from document.misread(("services", i, key, j, "fields"))


def _unreachable(policies: Sequence[Policy]) -> Iterator[Mistake]:
    """Policies whose alerts an earlier one takes, as far as their matchers show it."""
    equal: dict[tuple[str, str], list[int]] = {}
    rest: list[int] = []
    for n, policy in enumerate(policies):
        fixed = {matcher.name: matcher.value for matcher in policy.match if matcher.op == "="}
        earlier = [*rest, *(i for pair in fixed.items() for i in equal.get(pair, ()))]
        taken = (i for i in sorted(earlier) if all(_implied(m, fixed, policy.match) for m in policies[i].match))
        if (first := next(taken, None)) is not None:
            problem = f"policy {policy.name} is never reached: {policies[first].name} before it takes all its alerts"
            yield ("policies", n, "match"), f"{problem}; move it before policies[{first}]"
        if fixed:
            equal.setdefault(next(iter(fixed.items())), []).append(n)
        else:
            rest.append(n)


def _implied(matcher: Matcher, fixed: dict[str, str], matchers: Iterable[Matcher]) -> bool:
    """Whether every alert that has the fixed labels and fits the matchers fits this one, too."""
    if matcher.name in fixed:
        return matcher.matches(fixed)
    if matcher.name == "alertname" and (matcher.value, matcher.op) in _ALWAYS:
        return True
    return matcher in matchers or (matcher.value, matcher.op) == _ALWAYS[0]
