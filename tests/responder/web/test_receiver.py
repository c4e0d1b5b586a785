"""202 only once the decision on an alert is in the journal, and 5xx only if a retry can help."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from responder.backends.alertmanager.alerts import fingerprint
from responder.journal import decisions
from responder.rollback.events import Closed, Event, Outcome, Planned, StepCompleted, StepStarted
from responder.web import receiver
from tests.responder.examples import LABELS, NOW, ago, as_bytes, plan, policy, policy_set, sent_alert, sent_body
from tests.responder.web.conftest import ResponderServer

ALERTS = "/api/v1/alerts"
JSON = {"Content-Type": "application/json"}
FINGERPRINT = fingerprint(LABELS)


@pytest.fixture
async def ready(responder: ResponderServer) -> ResponderServer:
    """All guards allow a rollback."""
    await responder.good_then_new()
    responder.alertmanager.fires(LABELS, FINGERPRINT)
    responder.prometheus.sees(LABELS)
    return responder


async def executions_of(responder: ResponderServer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await responder.get("/api/v1/executions"))[1]["executions"]
    return found


async def test_an_alert_that_all_guards_allow_is_accepted(ready: ResponderServer) -> None:
    status, answer = await ready.post(ALERTS, sent_body())
    (decision,) = answer["decisions"]
    assert (status, answer["alerts"]) == (202, 1)
    assert (decision["result"], decision["guard"], decision["reason"]) == ("allow", "mode", "auto mode")
    assert (decision["policy"], decision["service"], decision["environment"]) == (
        "backend-down",
        "backend",
        "production",
    )
    (execution,) = await executions_of(ready)
    assert execution["id"] == decision["execution"]
    assert (execution["state"], execution["from_version"], execution["to_version"]) == ("accepted", "2.1", "2.0")
    assert (ready.shop / "current").readlink().name == "2.1", "nothing is done inside the request"
    series = await ready.series()
    assert "responder_webhook_duration_seconds_count 1.0" in series
    assert 'responder_services_in_trouble{environment="production"} 1.0' in series
    assert 'responder_service_locked{environment="production",service="backend",state="accepted"} 1.0' in series


async def test_a_denial_is_a_202_with_its_reason(ready: ResponderServer) -> None:
    ready.policy_set = policy_set(policy(mode="observe"), services=ready.policy_set.services)
    status, answer = await ready.post(ALERTS, sent_body())
    (decision,) = answer["decisions"]
    assert status == 202
    assert (decision["result"], decision["guard"], decision["execution"]) == ("deny", "mode", None)
    assert decision["reason"] == "observe mode: would have acted"
    assert await executions_of(ready) == []
    (kept,) = (await ready.get("/api/v1/decisions"))[1]["decisions"]
    assert kept["reason"] == decision["reason"]
    assert [v["guard"] for v in kept["body"]["guard_results"]][-1] == "mode"


async def test_the_same_alert_again_opens_nothing_and_is_counted(ready: ResponderServer) -> None:
    body = sent_body()
    first = (await ready.post(ALERTS, body))[1]["decisions"][0]
    for _ in range(2):
        again = (await ready.post(ALERTS, body))[1]["decisions"][0]
        assert (again["guard"], again["reason"]) == (
            "duplicate_alert",
            f"this alert already opened rollback {first['execution']}",
        )
    assert len(await executions_of(ready)) == 1
    kept = (await ready.get("/api/v1/decisions"))[1]["decisions"]
    assert sorted((d["guard"], d["times"]) for d in kept) == [("duplicate_alert", 2), ("mode", 1)]


async def test_many_simultaneous_copies_open_one_rollback(ready: ResponderServer) -> None:
    body = sent_body()
    answers = await asyncio.gather(*(ready.post(ALERTS, body) for _ in range(12)))
    assert all(status == 202 for status, _ in answers)
    opened = [d["execution"] for _, answer in answers for d in answer["decisions"] if d["execution"]]
    assert len(opened) == 1
    assert len(await executions_of(ready)) == 1


async def test_the_same_alert_twice_in_one_body_opens_one(ready: ResponderServer) -> None:
    firing = sent_alert()
    status, answer = await ready.post(ALERTS, sent_body(firing, firing))
    assert status == 202
    assert [d["result"] for d in answer["decisions"]] == ["allow"]


async def test_a_service_that_a_policy_names_twice_is_rolled_back_once(ready: ResponderServer) -> None:
    ready.policy_set = policy_set(policy(roll_back=("backend", "backend")), services=ready.policy_set.services)
    status, answer = await ready.post(ALERTS, sent_body())
    assert status == 202
    assert [d["result"] for d in answer["decisions"]] == ["allow"]


async def test_another_alert_of_the_same_service_is_denied_while_one_is_open(ready: ResponderServer) -> None:
    other = {**LABELS, "pod": "p1"}
    ready.alertmanager.fires(other, fingerprint(other))
    ready.prometheus.sees(other)
    first = (await ready.post(ALERTS, sent_body()))[1]["decisions"][0]["execution"]
    (decision,) = (await ready.post(ALERTS, sent_body(sent_alert(other))))[1]["decisions"]
    assert (decision["guard"], decision["reason"]) == ("in_progress", f"rollback {first} is in progress (accepted)")


def steps_until_closed(outcome: Outcome, *, changed: bool) -> list[Event]:
    now = datetime.now(UTC)
    return [
        Planned(at=now, plan=plan()),
        StepStarted(at=now, step=0, title="move"),
        StepCompleted(at=now, step=0, changed=changed),
        Closed(at=now, outcome=outcome, by="a", reason="b"),
    ]


@pytest.mark.parametrize(("changed", "guard"), [(True, "cooldown"), (False, "mode")])
async def test_a_cooldown_follows_a_rollback_with_changes(ready: ResponderServer, changed: bool, guard: str) -> None:
    first = (await ready.post(ALERTS, sent_body()))[1]["decisions"][0]["execution"]
    await ready.append(first, *steps_until_closed("cancelled", changed=changed))
    await ready.deployed("2.2", 0)
    ready.alertmanager.fires(LABELS, FINGERPRINT)
    ready.prometheus.sees(LABELS)
    body = sent_body(sent_alert(startsAt=datetime.now(UTC).isoformat()))
    (decision,) = (await ready.post(ALERTS, body))[1]["decisions"]
    assert decision["guard"] == guard, decision


async def test_after_a_success_the_bad_version_is_not_a_target(ready: ResponderServer) -> None:
    first = (await ready.post(ALERTS, sent_body()))[1]["decisions"][0]["execution"]
    await ready.append(first, *steps_until_closed("succeeded", changed=True))
    _, answer = await ready.get("/api/v1/versions/backend")
    assert {v["version"]: v["status"] for v in answer["versions"]} == {"2.1": "bad", "2.0": "good"}
    body = sent_body(sent_alert(startsAt=datetime.now(UTC).isoformat()))
    (decision,) = (await ready.post(ALERTS, body))[1]["decisions"]
    assert (decision["guard"], "the last change was rollback" in decision["reason"]) == ("deployed_within", True), (
        "no ping-pong"
    )


@pytest.mark.parametrize(
    ("state", "silenced_by", "reason"),
    [
        ("suppressed", ("s1",), "muted in Alertmanager: silence s1 of bob: deploying"),
        ("suppressed", (), "muted in Alertmanager: Alertmanager does not name the silence"),
    ],
)
async def test_a_silence_denies_it(
    responder: ResponderServer, state: str, silenced_by: tuple[str, ...], reason: str
) -> None:
    await responder.good_then_new()
    responder.alertmanager.fires(LABELS, FINGERPRINT, state=state, silenced_by=silenced_by)
    responder.alertmanager.silences["s1"] = {"id": "s1", "createdBy": "bob", "comment": "deploying"}
    (decision,) = (await responder.post(ALERTS, sent_body()))[1]["decisions"]
    assert (decision["result"], decision["guard"], decision["reason"]) == ("deny", "still_firing", reason)


async def test_a_forged_alert_is_denied(responder: ResponderServer) -> None:
    await responder.good_then_new()
    (decision,) = (await responder.post(ALERTS, sent_body()))[1]["decisions"]
    assert (decision["result"], decision["guard"]) == ("deny", "still_firing")
    assert "firing in neither Alertmanager nor Prometheus" in decision["reason"]


@pytest.mark.parametrize("raw", [None, b"{}", b'[{"fingerprint": "x"}]', b"null"])
async def test_an_unavailable_alertmanager_denies_and_is_named(responder: ResponderServer, raw: bytes | None) -> None:
    await responder.good_then_new()
    responder.alertmanager.status, responder.alertmanager.raw = (500 if raw is None else 200), raw
    status, answer = await responder.post(ALERTS, sent_body())
    assert status == 202
    (decision,) = answer["decisions"]
    assert (decision["result"], decision["guard"]) == ("deny", "still_firing")
    assert "cannot tell whether an alert still fires" in decision["reason"]


async def test_an_unconfigured_watchdog_is_not_recorded_as_a_missed_rollback(ready: ResponderServer) -> None:
    status, answer = await ready.post(ALERTS, sent_body(sent_alert({"alertname": "RollbackAutomationArmed"})))
    assert (status, answer["decisions"]) == (202, [])


async def test_an_alert_without_a_policy_is_recorded(ready: ResponderServer) -> None:
    body = sent_body(sent_alert({"alertname": "Unheard", "service": "x", "environment": "y"}))
    status, answer = await ready.post(ALERTS, body)
    assert status == 202
    (decision,) = answer["decisions"]
    assert (decision["result"], decision["guard"]) == ("ignore", "policy")
    assert decision["reason"] == "no policy matches Unheard"
    assert (await ready.get("/api/v1/decisions?service=x"))[1]["decisions"][0]["environment"] == "y"


async def test_resolved_alerts_are_not_decided(ready: ResponderServer) -> None:
    resolved = sent_alert(status="resolved", endsAt=datetime.now(UTC).isoformat())
    assert await ready.post(ALERTS, sent_body(resolved, status="resolved")) == (202, {"alerts": 1, "decisions": []})


async def test_each_alert_of_a_body_is_answered(ready: ResponderServer) -> None:
    nobody = sent_alert({"alertname": "BackendDown", "service": "backend", "environment": "moon"})
    unheard = sent_alert({"alertname": "Unheard"})
    _, answer = await ready.post(ALERTS, sent_body(sent_alert(), nobody, unheard))
    assert answer["alerts"] == 3
    decisions = {(d["environment"], d["result"], d["guard"]) for d in answer["decisions"]}
    assert decisions == {
        ("production", "allow", "mode"),
        ("moon", "deny", "service_configured"),
        ("", "ignore", "policy"),
    }


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"notification_reason": "first notification", "routeLabels": {"a": "b"}},
        {"version": "1", "orgId": 1, "state": "alerting", "title": "x"},
        {"truncatedAlerts": 5},
    ],
)
async def test_every_version_of_the_body_format_is_accepted(ready: ResponderServer, extra: dict[str, Any]) -> None:
    status, answer = await ready.post(ALERTS, sent_body(**extra))
    assert (status, answer["decisions"][0]["result"]) == (202, "allow")


@pytest.mark.parametrize("path", [ALERTS, "/api/v2/alerts"])
async def test_vmalert_may_post_its_bare_list(ready: ResponderServer, path: str) -> None:
    firing = {"labels": LABELS, "startsAt": ago(10, datetime.now(UTC)).isoformat(), "annotations": {}}
    status, answer = await ready.post(path, [firing])
    assert (status, answer["decisions"][0]["result"]) == (202, "allow")


async def test_the_sender_is_recorded_by_its_token(guarded_responder: ResponderServer) -> None:
    responder = guarded_responder
    await responder.good_then_new()
    responder.alertmanager.fires(LABELS, FINGERPRINT)
    responder.prometheus.sees(LABELS)
    headers = {"Authorization": "Bearer token-with-scope-alerts"}
    assert (await responder.post(ALERTS, sent_body(), headers=headers))[0] == 202
    rows = await responder.journal.read(decisions.find, service=None, since=None, most=1)
    assert json.loads(rows[0]["body"])["requested_by"] == "alerts-only"


# --- one invalid alert affects no other ---
LONG = {**LABELS, "x": "y" * 1100}


@pytest.mark.parametrize(
    ("odd", "where", "reason"),
    [
        (
            {"labels": {**LABELS, "x": "y" * 1100}},
            "alerts[1].labels.x",
            "labels.x: 1100 characters, at most 1024 are read",
        ),
        ({"startsAt": "2026-11-23T22:00:00"}, "alerts[1].startsAt", "startsAt: a timestamp needs a time zone"),
        ({"labels": {**LABELS, "x": 5}}, "alerts[1].labels.x", "labels.x: must be a string, not a number"),
    ],
)
async def test_an_invalid_alert_is_rejected_alone_and_the_valid_one_is_decided(
    ready: ResponderServer, odd: dict[str, Any], where: str, reason: str
) -> None:
    body = sent_body(sent_alert(), {**sent_alert(), **odd})
    for _ in range(2):  # repeated: the same record
        status, answer = await ready.post(ALERTS, body)
        assert status == 202
    refused = answer["decisions"][0]
    assert (refused["result"], refused["guard"], refused["where"]) == ("deny", "readable", where)
    assert refused["reason"] == f"alert BackendDown cannot be read: {reason}"
    assert (refused["service"], refused["environment"]) == ("backend", "production")
    assert len(await executions_of(ready)) == 1, "the valid one opened its rollback"
    kept = {d["guard"]: d for d in (await ready.get("/api/v1/decisions"))[1]["decisions"]}
    assert (kept["readable"]["reason"], kept["readable"]["times"]) == (refused["reason"], 2)
    assert kept["readable"]["body"]["refused"][0]["where"] == where
    series = await ready.series()
    assert 'responder_alerts_total{status="refused"} 2.0' in series
    assert 'responder_services_in_trouble{environment="production"} 1.0' in series


async def test_an_invalid_alert_notifies_once_and_a_resolved_one_does_not(ready: ResponderServer) -> None:
    bad = {"labels": {**LABELS, "x": 5}}
    body = sent_body({**sent_alert(), **bad}, {**sent_alert(), **bad, "status": "resolved"})
    for _ in range(2):
        _, answer = await ready.post(ALERTS, body)
    assert [d["result"] for d in answer["decisions"]] == ["deny", "ignore"]
    with sqlite3.connect(ready.file) as connection:
        stages = connection.execute("SELECT stage FROM outbox").fetchall()
    connection.close()
    assert stages == [("denied",)]


@pytest.mark.parametrize(
    "harmless",
    [
        {"annotations": {"summary": "x" * 17_000}},
        {"generatorURL": "http://prometheus/" + "x" * 9000},
        {"annotations": None},
        {"annotations": {"summary": "a\0b"}},
        {"fingerprint": None},
        {"generatorURL": None},
    ],
)
async def test_unimportant_fields_never_invalidate_an_alert(ready: ResponderServer, harmless: dict[str, Any]) -> None:
    status, answer = await ready.post(ALERTS, sent_body(sent_alert(**harmless)))
    assert (status, [d["result"] for d in answer["decisions"]]) == (202, ["allow"])


async def test_a_repeated_alert_without_a_start_is_the_same_incident(ready: ResponderServer) -> None:
    first = (await ready.post("/api/v2/alerts", [{"labels": LABELS}]))[1]["decisions"][0]
    assert first["result"] == "allow"
    for again in ({"labels": LABELS}, {"labels": LABELS, "startsAt": None}):
        (decision,) = (await ready.post("/api/v2/alerts", [again]))[1]["decisions"]
        assert (decision["guard"], first["execution"] in decision["reason"]) == ("duplicate_alert", True)


async def test_a_new_instance_after_its_end_is_another_incident(ready: ResponderServer) -> None:
    first = (await ready.post(ALERTS, [{"labels": LABELS}]))[1]["decisions"][0]
    over = {"labels": LABELS, "endsAt": ago(1, datetime.now(UTC)).isoformat()}
    assert (await ready.post(ALERTS, [over]))[1]["decisions"] == []
    (decision,) = (await ready.post(ALERTS, [{"labels": LABELS}]))[1]["decisions"]
    assert (decision["guard"], first["execution"] in decision["reason"]) == ("in_progress", True)


async def test_explain_shows_what_would_be_denied(ready: ResponderServer) -> None:
    body = sent_body(sent_alert(), sent_alert(labels={"a": "x" * 1100}))
    _, answer = await ready.post("/api/v1/explain", body)
    assert len(answer["incidents"]) == 1
    assert [refused["where"] for refused in answer["refused"]] == ["alerts[1].labels.a"]


# --- rejected requests ---
@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[" * 100_000, "body"),
        (b'{"version":"4","alerts":[],"x":' + b"[" * 50 + b"]" * 50 + b"}", "body"),
        (as_bytes(sent_body(version="5")), "version"),
        (as_bytes([5, "x"]), "[0]"),
    ],
)
async def test_an_invalid_body_is_a_400_with_its_path(responder: ResponderServer, body: bytes, where: str) -> None:
    status, answer = await responder.post(ALERTS, body)
    assert (status, answer["where"]) == (400, where)
    assert answer["error"]


async def test_a_time_beyond_the_calendar_is_not_a_crash(responder: ResponderServer) -> None:
    """A 5xx would be retried forever."""
    status, _ = await responder.post(ALERTS, sent_body(sent_alert(endsAt="9999-12-31T23:59:59-10:00")))
    assert status in (202, 400)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": ""},
        {"Content-Type": "application/json", "Content-Encoding": "br"},
    ],
)
async def test_another_content_type_is_a_415(responder: ResponderServer, headers: dict[str, str]) -> None:
    status, answer = await responder.post(ALERTS, as_bytes(sent_body()), headers=headers)
    assert status == 415
    assert answer["error"]


async def test_a_charset_does_not_matter(ready: ResponderServer) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert (await ready.post(ALERTS, as_bytes(sent_body()), headers=headers))[0] == 202


async def test_a_large_body_is_a_413(responder: ResponderServer) -> None:
    status, answer = await responder.ask(
        "POST", ALERTS, headers=JSON, data=io.BytesIO(b" " * (receiver.MOST_BYTES + 1))
    )
    assert status == 413
    assert answer["error"]


async def test_a_body_that_never_arrives_is_a_408(responder: ResponderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "READ_WITHIN", 0.05)
    reader, writer = await asyncio.open_connection(responder.client.host, responder.client.port)
    host = f"{responder.client.host}:{responder.client.port}"
    head = f"POST /api/v1/alerts HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 99"
    writer.write(f"{head}\r\n\r\n{{".encode())
    answer = await asyncio.wait_for(reader.read(2000), 60)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"the body did not arrive within 0.05 s" in answer
    writer.close()
    await writer.wait_closed()


async def test_too_many_requests_get_a_retry_status(
    responder: ResponderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "MOST_AT_ONCE", 0)
    async with responder.client.post(ALERTS, json=sent_body()) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
    assert 'responder_webhooks_total{outcome="overloaded"} 1.0' in await responder.series()


async def test_a_full_queue_is_a_retry_status_and_nothing_of_it_is_recorded(
    ready: ResponderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "MOST_AT_ONCE", 1)
    ready.alertmanager.hangs = True
    first = asyncio.create_task(ready.post(ALERTS, sent_body()))
    await until_queried(ready)
    other = sent_alert({**LABELS, "service": "cart"})
    async with ready.client.post(ALERTS, json=sent_body(other)) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
    ready.alertmanager.release()
    assert (await first)[0] == 202
    kept = (await ready.get("/api/v1/decisions"))[1]["decisions"]
    assert {decision["service"] for decision in kept} == {"backend"}


async def test_bodies_wait_only_up_to_a_limit_of_bytes(ready: ResponderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "MOST_WAITING", 100)
    async with ready.client.post(ALERTS, json=sent_body()) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
    assert (await ready.get("/api/v1/decisions"))[1]["decisions"] == []


async def test_a_body_of_unknown_length_counts_as_long_as_it_is(
    ready: ResponderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def chunked() -> AsyncIterator[bytes]:
        yield as_bytes(sent_body())

    monkeypatch.setattr(receiver, "MOST_WAITING", receiver.MOST_BYTES + 10_000)
    ready.alertmanager.hangs = True
    requests = []
    for _ in range(2):
        requests.append(asyncio.create_task(ready.client.post(ALERTS, data=chunked(), headers=JSON)))
        await until_queried(ready)
    ready.alertmanager.release()
    for response in await asyncio.gather(*requests):
        assert response.status == 202


async def test_other_routes_answer_while_alerts_are_decided(ready: ResponderServer) -> None:
    ready.alertmanager.hangs = True
    deciding = asyncio.create_task(ready.post(ALERTS, sent_body()))
    await until_queried(ready)
    for path in ("/-/healthy", "/metrics"):
        async with ready.client.get(path) as response:
            assert response.status == 200
    assert (await ready.post("/api/v1/executions/all/stop", {"reason": "storm"}))[0] == 202
    assert not deciding.done()
    ready.alertmanager.release()
    status, answer = await deciding
    assert (status, answer["decisions"][0]["guard"]) == (202, "kill_switch"), "the stop counts for what is undecided"


async def test_health_checks_are_answered_between_the_decisions_of_a_large_body(ready: ResponderServer) -> None:
    ready.policy_set = policy_set(policy(roll_back={"label": "service"}), services=ready.policy_set.services)
    alerts = [sent_alert({**LABELS, "service": f"s{n}"}) for n in range(2000)]
    deciding = asyncio.create_task(ready.post(ALERTS, sent_body(*alerts)))
    answered = 0
    while not deciding.done():
        async with ready.client.get("/-/healthy") as response:
            assert response.status == 200
        answered += 1
    status, answer = await deciding
    assert (status, len(answer["decisions"])) == (202, 2000)
    assert answered > 2


async def until_queried(responder: ResponderServer) -> None:
    async with asyncio.timeout(60):
        while not responder.alertmanager.requests:
            await asyncio.sleep(0.01)


async def test_an_unwritable_journal_is_a_503_and_nothing_is_accepted(ready: ResponderServer) -> None:
    ready.break_journal()
    async with ready.client.post(ALERTS, json=sent_body()) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert "the journal" in (await response.json())["error"]
    ready.mend_journal()
    assert await executions_of(ready) == []
    status, answer = await ready.post(ALERTS, sent_body())
    assert (status, answer["decisions"][0]["result"]) == (202, "allow"), "a retry is accepted"


async def test_every_outcome_is_counted(ready: ResponderServer) -> None:
    await ready.post(ALERTS, sent_body())
    await ready.post(ALERTS, b"{")
    await ready.post(ALERTS, b"x", headers={"Content-Type": "text/plain"})
    series = await ready.series()
    assert 'responder_webhooks_total{outcome="accepted"} 1.0' in series
    assert 'responder_webhooks_total{outcome="invalid"} 2.0' in series
    assert 'responder_alerts_total{status="firing"} 1.0' in series
    assert 'responder_decisions_total{guard="mode",policy="backend-down",result="allow"} 1.0' in series


async def test_the_time_of_the_sender_is_not_used_for_the_record(ready: ResponderServer) -> None:
    await ready.post(ALERTS, sent_body(sent_alert(startsAt=NOW.isoformat())))
    (kept,) = (await ready.get("/api/v1/decisions"))[1]["decisions"]
    assert datetime.fromisoformat(kept["at"]) > ago(60, datetime.now(UTC))
