"""Applies the limits of a token or user to a request, the same for every route.

A rollback of several services needs permission for all of them, to be shown and to be steered.
"""

from __future__ import annotations

from aiohttp import web

from foundation.configuration.suggestions import meant
from responder.config.permitted import Permitted
from responder.decisions.policy_set import PolicySet
from responder.errors import Forbidden, Unknown
from responder.journal import Transaction
from responder.rollback.events import Accepted
from responder.services.service import Service
from responder.web.access.access import WHO, Who


def permitted(request: web.Request) -> Permitted:
    """The services and environments that the client may see and control."""
    return request[WHO].permitted


def demand_unlimited(request: web.Request, what: str) -> None:
    """Raises Forbidden for a token with limits."""
    if permitted(request).limited:
        raise Forbidden(
            f"{request[WHO].name} is limited to some services or environments: {what} needs a token without limits"
        )


def demand(request: web.Request, service: str | None, environment: str | None) -> None:
    """Raises Forbidden for a service or environment that is not permitted, whether it exists or not."""
    who = request[WHO]
    for name, allowed, kind in (
        (service, who.permitted.services, "service"),
        (environment, who.permitted.environments, "environment"),
    ):
        if name and allowed is not None and name not in allowed:
            raise Forbidden(f"{who.name} is not permitted for {kind} {name!r}")


def narrowed(request: web.Request, policy_set: PolicySet) -> PolicySet:
    """The policy set with only the permitted services."""
    allowed = permitted(request)
    if not allowed.limited:
        return policy_set
    return policy_set.model_copy(
        update={"services": tuple(s for s in policy_set.services if allowed.includes(s.name, s.environment))}
    )


def similar(policy_set: PolicySet, name: str | None, environment: str | None) -> str:
    """The most similar name for a service or environment that does not exist, as `meant`.

    Only for requests of people: it compares with every service, which a storm of alerts must not.
    """
    names = {service.name for service in policy_set.services}
    if name and name not in names:
        return meant(name, names)
    environments = {service.environment for service in policy_set.services if name in (None, service.name)}
    return meant(environment, environments) if environment else ""


def service_of(request: web.Request, policy_set: PolicySet, name: str, environment: str | None) -> Service:
    """The configured service. Raises Forbidden if it is not permitted, Unknown if it does not exist."""
    demand(request, name, environment)
    visible = narrowed(request, policy_set)
    service, problem = visible.service(name, environment or "")
    if service is None and permitted(request).limited and any(s.name == name for s in policy_set.services):
        raise Forbidden(f"{request[WHO].name} is not permitted for service {name!r} where it is configured")
    if service is None:
        raise Unknown(problem + similar(visible, name, environment))
    return service


def sees(who: Who, accepted: Accepted) -> bool:
    """Whether every service of the rollback is permitted."""
    return all(who.permitted.includes(part.service, accepted.environment) for part in accepted.parts)


async def demand_execution(tx: Transaction, request: web.Request, execution_id: str) -> None:
    """Raises Unknown if the execution is not permitted, as if it did not exist."""
    parts = await tx.all("parts_of_execution", execution=execution_id)
    allowed = permitted(request)
    if allowed.limited and not (parts and all(allowed.includes(p["service"], p["environment"]) for p in parts)):
        raise Unknown(f"execution {execution_id} does not exist")
