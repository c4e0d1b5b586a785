"""A limited token shows and does only what it permits: every route, for every kind of token."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

import pytest
from pydantic import SecretStr

from responder.decisions.journal_facts import WATCHDOG
from responder.decisions.limits import Watchdog
from responder.decisions.recording import record_decision
from responder.journal import decisions, evidence, executions
from responder.rollback.events import Closed, StepFailed
from responder.services import rollbacks
from responder.web.access.settings import Scope, Token, WebSettings
from responder.web.links.signing import Links
from tests.responder.examples import accepted, policy, policy_set, sent_alert, sent_body, service, version_change
from tests.responder.web.access.test_access import ROUTES
from tests.responder.web.conftest import ResponderServer

ALL = get_args(Scope)
KINDS: dict[str, dict[str, Any]] = {
    "all": {},
    "backend": {"services": ("backend",)},
    "production": {"environments": ("production",)},
    "backend in production": {"services": ("backend",), "environments": ("production",)},
    "backend and web": {"services": ("backend", "web")},
}
"""Every kind has all scopes: all denials below are due to the limits."""

SERVICES = (("backend", "production"), ("backend", "staging"), ("web", "production"), ("web", "staging"))


def header(kind: str) -> dict[str, str]:
    return {"Authorization": f"Bearer token of kind {kind}"}


def may(kind: str, name: str, environment: str) -> bool:
    limits = KINDS[kind]
    services, environments = limits.get("services", (name,)), limits.get("environments", (environment,))
    return name in services and environment in environments


class Filled(NamedTuple):
    """A responder with a history of four services, and one rollback of two of them."""

    responder: ResponderServer
    executions: dict[tuple[str, str], str]
    together: str


@pytest.fixture
async def filled(make_responder: Any) -> Filled:
    tokens = [
        Token(name=kind, scopes=ALL, token=SecretStr(f"token of kind {kind}"), **limits)
        for kind, limits in KINDS.items()
    ]
    responder: ResponderServer = await make_responder(*tokens)
    services = tuple(service(*key) for key in SERVICES)
    by_label = policy(match=['alertname=~".+"'], roll_back={"label": "service"})
    responder.policy_set = policy_set(by_label, services=services)
    known, now = {}, datetime.now(UTC)
    for name, environment in SERVICES:
        where = {"service": name, "environment": environment}
        for version, ago in (("2.0", 86400), ("2.1", 600)):
            await responder.deployed(version, ago, "good" if version == "2.0" else None, **where)
        execution_id = f"{name}-{environment}"
        event = accepted(at=now, alerts=(), **where)
        await responder.journal.transaction(rollbacks.accept, execution_id, event)
        await responder.append(execution_id, StepFailed(at=now, reason="x", freeze=True))
        await responder.journal.transaction(record_decision, decision(f"d-{execution_id}", execution_id, **where))
        more = {**where, "policy": "p", "deployment_id": "", "execution": execution_id, "state": "failed", "at": now}
        await responder.journal.transaction(evidence.record, execution_id, **more)
        known[name, environment] = execution_id
    return Filled(responder, known, await _together(responder, now))


async def _together(responder: ResponderServer, now: datetime) -> str:
    """Both production services in one closed rollback; each has had another one since."""
    other = version_change("web")
    for execution_id in ("backend-production", "web-production"):
        await responder.journal.transaction(_close, execution_id)
    event = accepted(at=now, alerts=(), also=(other,))
    await responder.journal.transaction(rollbacks.accept, "together", event)
    await responder.append("together", StepFailed(at=now, reason="x", freeze=True))
    return "together"


async def _close(tx: Any, execution_id: str) -> None:
    execution = await executions.load(tx, execution_id)
    await rollbacks.append(tx, execution, [_closed()], None)


def decision(decision_id: str, execution: str, **where: str) -> decisions.RecordedDecision:
    now = datetime.now(UTC)
    facts = {
        "policy": "p",
        "result": "allow",
        "guard": "mode",
        "reason": "x",
        "body": json.dumps({"guard_results": []}),
    }
    return decisions.RecordedDecision(id=decision_id, incident=decision_id, at=now, last_at=now, **where, **facts)  # type: ignore[arg-type]


def about(path: str, name: str, environment: str) -> tuple[str, Any]:
    """Path and body of a request to a route of the table, about one service in one environment."""
    execution = f"{name}-{environment}"
    path = path.replace("/backend", f"/{name}").replace("/x", f"/{execution}")
    where = {"service": name, "environment": environment}
    flux = {"involvedObject": {"kind": "HelmRelease", "name": name}, "severity": "info", "reason": "UpgradeSucceeded"}
    bodies: dict[str, Any] = {
        "/api/v1/deployments/flux": {
            **flux,
            "timestamp": "2026-11-23T09:00:00Z",
            "metadata": {"revision": "2.2", "environment": environment},
        },
        "/api/v1/deployments": {**where, "version": "2.2"},
        f"/api/v1/versions/{name}/2.1": {"environment": environment, "status": "bad"},
        f"/api/v1/clients/{name}/web": {"environment": environment, "block": ["1"], "reason": "x"},
        "/api/v1/rollbacks": {**where, "reason": "x", "dry_run": True},
        f"/api/v1/executions/{execution}/approve": {"plan_hash": "x"},
        f"/api/v1/executions/{execution}/close": {"reason": "x"},
    }
    return path, bodies.get(path, {})


LISTS = {"/api/v1/deployments", "/api/v1/executions", "/api/v1/decisions", "/api/v1/status", "/api/v1/report"}
FOR_ALL = {"/metrics", "/-/reload", "/api/v1/executions/all/stop"}
"""Routes about everything."""
ELSEWHERE = {
    "/api/v1/alerts", "/api/v2/alerts", "/api/v1/events", "/api/v1/preview", "/api/v1/explain", "/api/v1/clients/keys",
}  # fmt: skip
"""Routes with their own tests below, and the public key, which belongs to no service."""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_route_about_a_service_needs_permission_for_that_service(filled: Filled, kind: str) -> None:
    for name, environment in SERVICES:
        for method, path, _ in ROUTES:
            if (path in LISTS and method == "GET") or path in FOR_ALL | ELSEWHERE:
                continue
            url, body = about(path, name, environment)
            how: dict[str, Any] = {"headers": {**header(kind), "Accept": "application/json"}}
            if method == "GET" and "/executions/" not in url:
                url += f"?environment={environment}"
            if method == "POST":
                how["json"] = body
            async with filled.responder.client.request(method, url, **how) as response:
                status, answer = response.status, await response.text()
            if may(kind, name, environment):
                assert status != 403, (method, url, answer)
                assert "does not exist" not in answer, (method, url)
            elif "/executions/" in url:
                missing = f"execution {name}-{environment} does not exist"
                kept = f"evidence {name}-{environment} does not exist"
                assert (status, json.loads(answer)["error"]) in ((404, missing), (404, kept)), (method, url)
            else:
                assert (status, "is not permitted for" in answer) == (403, True), (method, url)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", [*sorted(FOR_ALL), "/api/v1/executions/all/close"])
async def test_global_routes_need_a_token_without_limits(filled: Filled, kind: str, path: str) -> None:
    method = "GET" if path == "/metrics" else "POST"
    body = None if method == "GET" else {"reason": "x"}
    async with filled.responder.client.request(method, path, json=body, headers=header(kind)) as answer:
        if kind == "all":
            assert answer.status != 403
        else:
            assert answer.status == 403
            assert "without limits" in (await answer.json())["error"]
    assert (await filled.responder.journal.read(decisions.kill_switch) is not None) is (
        kind == "all" and "stop" in path
    )


def shown(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(row["service"], row["environment"]) for row in rows}


@pytest.mark.parametrize("kind", KINDS)
async def test_lists_show_only_permitted_services(filled: Filled, kind: str) -> None:
    responder, own = filled.responder, {key for key in SERVICES if may(kind, *key)}

    async def get(path: str) -> Any:
        status, body = await responder.get(f"/api/v1/{path}", headers=header(kind))
        assert status == 200
        return body

    assert shown((await get("deployments"))["deployments"]) == own
    assert len((await get("deployments?limit=3"))["deployments"]) == min(3, 2 * len(own))
    assert shown((await get("decisions"))["decisions"]) == own
    both = all(may(kind, name, "production") for name in ("backend", "web"))
    ids = {row["id"] for row in (await get("executions"))["executions"]}
    assert ids == {filled.executions[key] for key in own} | ({filled.together} if both else set())
    for report in (await get("status?health=now"), await get("report")):
        assert shown(report["services"]) == own
    status = await get("status")
    stuck = {row["id"] for row in status["stuck"]}
    assert stuck == {f"{n}-{e}" for n, e in own if e == "staging"} | ({filled.together} if both else set())
    assert (status["notifications"] == []) or kind == "all"
    for name in ("backend", "web"):
        seen = {e for n, e in own if n == name}
        code, body = await responder.get(f"/api/v1/versions/{name}?history=true", headers=header(kind))
        assert code == (200 if seen else 403)
        assert not seen or {row["environment"] for row in body["versions"]} == seen


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rollback_of_several_services_needs_permission_for_all(filled: Filled, kind: str) -> None:
    both, responder = all(may(kind, name, "production") for name in ("backend", "web")), filled.responder
    path = f"/api/v1/executions/{filled.together}"
    for route in (path, f"{path}/report", f"{path}/events"):
        headers = {**header(kind), "Accept": "application/json"}
        assert (await responder.get(route, headers=headers))[0] == (200 if both else 404)
    for action, body in (("stop", {}), ("close", {"reason": "x"})):
        status, answer = await responder.post(f"{path}/{action}", body, headers=header(kind))
        assert (status == 404) is not both, answer
    payload = {"service": "backend", "environment": "production", "also": ["web"], "reason": "x", "dry_run": True}
    assert (await responder.post("/api/v1/rollbacks", payload, headers=header(kind)))[0] == (200 if both else 403)


@pytest.mark.parametrize("kind", KINDS)
async def test_alerts_for_other_services_open_nothing(filled: Filled, kind: str) -> None:
    sent = [sent_alert({"alertname": "X", "service": n, "environment": e}) for n, e in SERVICES]
    status, answer = await filled.responder.post("/api/v1/alerts", sent_body(*sent), headers=header(kind))
    assert status == 202
    judged = {(d["service"], d["environment"]): d["reason"] for d in answer["decisions"]}
    for key in SERVICES:
        assert ("is not permitted for" in judged[key]) is not may(kind, *key)
    kept = (await filled.responder.get("/api/v1/decisions", headers=header("all")))[1]["decisions"]
    refused = {(d["service"], d["environment"]) for d in kept if "is not permitted for" in d["reason"]}
    assert refused == {key for key in SERVICES if not may(kind, *key)}, "and it is recorded"
    _, answer = await filled.responder.post("/api/v1/explain", sent_body(*sent), headers=header(kind))
    assert shown(answer["incidents"]) == {key for key in SERVICES if may(kind, *key)}


async def test_denied_alerts_do_not_count_later(filled: Filled) -> None:
    """They are not decided again without the limits of their token, block no other rollback, and mark no version."""
    responder = filled.responder
    since = responder.journal.now()
    sent = [sent_alert({"alertname": "X", "service": n, "environment": e}) for n, e in SERVICES]
    assert (await responder.post("/api/v1/alerts", sent_body(*sent), headers=header("backend in production")))[0] == 202

    async def remembered(tx: Any) -> tuple[set[str], set[str], Any]:
        lately = {row["guard"] for row in await tx.all("decisions_to_revisit", since=since, most=100)}
        span = {"since": since, "until": responder.journal.now(), "most": 9}
        beside = {
            r["service"]
            for r in await tx.all("services_in_trouble", service="backend", environment="production", **span)
        }
        return (
            lately,
            beside,
            await tx.first("trouble_since", service="web", environment="staging", since=since, policy=None),
        )

    judged_again, beside, trouble = await responder.journal.read(remembered)
    assert ("policy" in judged_again, beside, trouble) == (False, set(), None)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_preview_shows_only_permitted_services(filled: Filled, kind: str) -> None:
    for name, environment in SERVICES:
        query = f"alertname=X&service={name}&environment={environment}"
        status, _ = await filled.responder.get(f"/api/v1/preview?{query}", headers=header(kind))
        assert status == (200 if may(kind, name, environment) else 403)


async def test_only_a_token_without_limits_can_send_the_watchdog(filled: Filled) -> None:
    responder = filled.responder
    responder.policy_set = responder.policy_set.model_copy(update={"watchdog": Watchdog(interval="1m")})
    body = sent_body(sent_alert({"alertname": "RollbackAutomationArmed"}))
    for kind, heard in (("backend", False), ("all", True)):
        assert (await responder.post("/api/v1/alerts", body, headers=header(kind)))[0] == 202
        assert (await responder.journal.read(decisions.last_heartbeat, WATCHDOG) is not None) is heard


async def test_the_stream_of_all_events_omits_other_services(filled: Filled) -> None:
    async with filled.responder.client.get("/api/v1/events", headers=header("backend")) as response:

        async def until(kind: str) -> set[str]:
            """The rollbacks with events, up to the first event of that type."""
            seen = set()
            async with asyncio.timeout(30):
                while line := await response.content.readline():
                    if line.startswith(b"data: "):
                        event = json.loads(line[6:])
                        seen.add(event["execution"])
                        if event["type"] == kind:
                            break
            return seen

        assert await until("step_failed") == {"backend-staging"}
        await filled.responder.append("web-staging", _closed())
        await filled.responder.append("backend-staging", _closed())
        assert await until("closed") == {"backend-staging"}


def _closed() -> Closed:
    return Closed(at=datetime.now(UTC), outcome="failed", by="x", reason="x")


def test_a_limited_token_cannot_sign_links() -> None:
    """A client that knows every secret of the key can sign for every service."""
    limited = Token(name="a", scopes=("approve", "operate"), services=("backend",), token=SecretStr("x" * 16))
    unlimited = Token(name="b", scopes=("approve", "operate"), token=SecretStr("y" * 16))
    assert Links(WebSettings(tokens=(limited,)))._key is None
    assert Links(WebSettings(tokens=(limited,)))._stop_key is None
    assert Links(WebSettings(tokens=(limited, unlimited)))._key == Links(WebSettings(tokens=(unlimited,)))._key


async def test_a_pipeline_can_only_report_deployments(make_responder: Any) -> None:
    responder: ResponderServer = await make_responder(
        Token(name="ci", scopes=("deploy",), token=SecretStr("token of a pipeline"))
    )
    headers = {"Authorization": "Bearer token of a pipeline"}
    deployed = {"service": "backend", "version": "2.1"}
    assert (await responder.post("/api/v1/deployments", {**deployed, "status": "good"}, headers=headers))[0] == 201
    status, answer = await responder.post("/api/v1/deployments", {**deployed, "status": "bad"}, headers=headers)
    assert (status, "scope operate" in answer["error"]) == (403, True)
    for method, path, _ in ROUTES:
        if not (method == "POST" and path.startswith("/api/v1/deployments")):
            async with responder.client.request(method, path, headers=headers) as response:
                assert response.status == 403, path
