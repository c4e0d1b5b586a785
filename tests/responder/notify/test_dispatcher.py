"""The dispatcher delivers at least once, in order, by one replica, and never at the cost of a rollback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from responder.decisions.policies import Policy
from responder.decisions.recording import record_decision
from responder.journal import decisions, executions, outbox
from responder.notify import Notify
from responder.notify.channels.webhook import Webhook
from responder.operations.undecided import record_notification
from responder.services import rollbacks
from tests.responder.examples import alert, policy, policy_set
from tests.responder.notify.conftest import (
    APPROVED,
    CANCELLED,
    DONE,
    HALTED,
    HEALTHY,
    HELD,
    PLANNED,
    SECOND,
    STARTED,
    STUCK,
    SUCCEEDED,
    WELL,
    DispatcherBench,
)  # fmt: skip
from tests.responder.notify.peers import TOKEN, Sink, Slack


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink().up() as up:
        yield up


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with Slack().up() as up:
        yield up


def hook(sink: Sink, **other: Any) -> dict[str, Any]:
    fields = {"url": f"{sink.url}/secret-path", "secret": "0123456789abcdef", "timeout": 0.5}
    return {**fields, **other}


def notify(**channels: Any) -> Notify:
    return Notify.model_validate(channels)


def bot(slack: Slack, **other: Any) -> dict[str, Any]:
    return {"token": TOKEN, "channel": "#ops", "api_url": f"{slack.url}/api", "timeout": 0.5, **other}


def stages(sink: Sink) -> list[str]:
    return [json.loads(raw)["stage"] for _, raw in sink.taken]


async def test_notifications_are_delivered_once_and_in_order(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()
    await bench.deliver(dispatcher)
    for events in WELL:
        await bench.append(*events)
    for _ in range(3):
        await bench.deliver(dispatcher)
    assert stages(sink) == ["accepted", "started", "succeeded"], "a further step is not delivered by a webhook"
    assert await bench.messages() == [("webhook", stage, "delivered") for stage in stages(sink)]
    assert bench.counted == [("webhook", "delivered")] * 3


async def test_a_failed_transaction_leaves_no_notification(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()

    async def breaks(tx: Any) -> None:
        known = await executions.load(tx, "e-1")
        await rollbacks.append(tx, known, [PLANNED, STARTED], None)
        raise RuntimeError("the power fails")

    with pytest.raises(RuntimeError):
        await bench.journal.transaction(breaks)
    await bench.deliver(dispatcher)
    assert stages(sink) == ["accepted"]


async def test_superseded_notifications_are_not_delivered(bench: DispatcherBench, slack: Slack) -> None:
    bench.notify, dispatcher = notify(slack=bot(slack)), bench.dispatcher()
    slack.trouble = [web.Response(status=500), web.Response(status=502)]
    await bench.accept()
    await bench.deliver(dispatcher)
    await bench.append(PLANNED, STARTED)
    await bench.deliver(dispatcher, after=2)
    await bench.append(DONE, SECOND)
    await bench.append(HEALTHY, SUCCEEDED)
    await bench.deliver(dispatcher, after=10)
    assert [body["text"] for body in slack.threads] == ["Rolled back: backend in production 2.1 → 2.0"]
    superseded = [("slack", stage, "superseded") for stage in ("accepted", "started", "progress")]
    assert await bench.messages() == [*superseded, ("slack", "succeeded", "delivered")]
    assert bench.counted == [("slack", "failed")] * 2 + [("slack", "delivered")]


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (lambda: web.Response(status=500, text="oops"), "answered 500: oops"),
        (lambda: web.Response(status=404, text="no_service"), "answered 404: no_service"),
        (lambda: web.Response(status=302, headers={"Location": "/elsewhere"}), "answered 302"),
        (lambda: "hang", "0.5 s"),
    ],
)
async def test_failed_deliveries_are_retried_and_shown(
    bench: DispatcherBench, sink: Sink, trouble: Any, why: str
) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    sink.trouble = [trouble(), trouble()]
    await bench.accept()
    await bench.deliver(dispatcher)
    (late,) = await bench.journal.read(outbox.undelivered, bench.clock())
    assert (late.channel, late.pending, late.given_up) == ("webhook", 1, 0)
    assert why in late.error
    assert "secret-path" not in late.error, "the path of a webhook is a secret"
    await bench.deliver(dispatcher)
    assert len(sink.requests) == 1, "not at once"
    await bench.deliver(dispatcher, after=1.5)
    await bench.deliver(dispatcher, after=1.5)
    assert len(sink.requests) == 2, "each time later"
    await bench.deliver(dispatcher, after=4)
    assert stages(sink)[-1] == "accepted"
    assert await bench.journal.read(outbox.undelivered, bench.clock()) == []


async def test_retry_after_pauses_the_channel(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    sink.trouble = [web.Response(status=429, headers={"Retry-After": "120"})]
    await bench.accept()
    await bench.deliver(dispatcher)
    await bench.accept("e-2", service="frontend", alerts=())
    await bench.deliver(dispatcher, after=100)
    assert len(sink.requests) == 1, "the pause covers every subject"
    await bench.deliver(dispatcher, after=30)
    await bench.deliver(dispatcher)
    assert sorted(json.loads(raw)["subject"] for _, raw in sink.taken) == ["e-1", "e-2"]


async def test_an_urgent_notification_skips_the_backoff(bench: DispatcherBench, slack: Slack) -> None:
    bench.notify, dispatcher = notify(slack=bot(slack)), bench.dispatcher()
    slack.broken = "internal_error"
    await bench.accept()
    for _ in range(7):
        await bench.deliver(dispatcher, after=130)
    slack.broken = ""
    await bench.append(PLANNED, STARTED)
    await bench.deliver(dispatcher, after=1)
    assert slack.threads == [], "other notifications wait"
    await bench.append(STUCK)
    await bench.deliver(dispatcher, after=1)
    assert [body["text"][:17] for body in slack.threads] == ["Rollback is stuck"]


async def test_an_urgent_notification_respects_retry_after(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    sink.trouble = [web.Response(status=429, headers={"Retry-After": "120"})]
    await bench.accept()
    await bench.deliver(dispatcher)
    await bench.append(PLANNED, STUCK)
    await bench.deliver(dispatcher, after=100)
    assert len(sink.requests) == 1
    await bench.deliver(dispatcher, after=30)
    await bench.deliver(dispatcher)
    assert stages(sink) == ["accepted", "stuck"]


async def test_a_refused_connection_names_host_and_port(bench: DispatcherBench, free_port: int) -> None:
    sink = Sink()
    sink.url = f"http://127.0.0.1:{free_port}"
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()
    await bench.deliver(dispatcher)
    (late,) = await bench.journal.read(outbox.undelivered, bench.clock())
    assert late.error.startswith(f"127.0.0.1:{free_port}: ")


async def test_a_restart_loses_nothing(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify = notify(webhook=hook(sink))
    first = bench.dispatcher()
    await bench.accept()
    sink.trouble = ["hang"]
    await first.round()
    while not sink.requests:
        await asyncio.sleep(0.01)
    await first.close()
    await bench.append(PLANNED, STARTED)
    second = bench.dispatcher()
    for _ in range(2):
        await bench.deliver(second)
    assert stages(sink) == ["accepted", "started"]


async def test_a_crash_after_sending_delivers_again_with_the_same_id(
    bench: DispatcherBench, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()
    real = outbox.delivered

    async def dies(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(outbox, "delivered", dies)
    await bench.deliver(dispatcher)
    monkeypatch.setattr(outbox, "delivered", real)
    other = bench.dispatcher()
    await bench.deliver(other, after=1)
    assert len(sink.taken) == 1, "the claim of the crashed dispatcher still holds"
    await bench.deliver(other, after=60)
    ids = [headers["X-Responder-Delivery"] for headers, _ in sink.taken]
    assert ids == ["e-1/0", "e-1/0"]


async def test_of_several_replicas_one_delivers(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify = notify(webhook=hook(sink))
    dispatchers = [bench.dispatcher() for _ in range(3)]
    for number in range(4):
        await bench.accept(f"e-{number}", service=f"s{number}", alerts=())
    await asyncio.gather(*(bench.deliver(dispatcher) for dispatcher in dispatchers))
    assert sorted(json.loads(raw)["subject"] for _, raw in sink.taken) == ["e-0", "e-1", "e-2", "e-3"]


async def test_old_notifications_are_given_up_and_shown(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink), give_up_after="1h"), bench.dispatcher()
    sink.trouble = [web.Response(status=500)]
    await bench.accept()
    await bench.deliver(dispatcher)
    await bench.deliver(dispatcher, after=3601)
    assert await bench.messages() == [("webhook", "accepted", "given_up")]
    (late,) = await bench.journal.read(outbox.undelivered, bench.clock())
    assert (late.pending, late.given_up, "answered 500" in late.error) == (0, 1, True)
    assert bench.counted == [("webhook", "failed"), ("webhook", "given_up")]
    await bench.append(PLANNED, STARTED)
    await bench.deliver(dispatcher)
    assert stages(sink) == ["started"], "later ones are delivered"


async def test_a_hanging_channel_delays_no_other(bench: DispatcherBench, sink: Sink, slack: Slack) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink, timeout=60.0), slack=bot(slack)), bench.dispatcher()
    sink.trouble = ["hang"]
    await bench.accept()
    await dispatcher.round()
    for events in WELL:
        await bench.append(*events)
        await dispatcher.round()
    async with asyncio.timeout(50):
        while not any(body["text"].startswith("Rolled back") for body in slack.threads):
            await asyncio.sleep(0.02)
            await dispatcher.round()
    assert len(sink.requests) == 1
    assert ("webhook", "accepted", "pending") in await bench.messages()


async def test_a_bug_in_a_channel_counts_as_a_failed_delivery(
    bench: DispatcherBench, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()

    async def breaks(*args: Any, **kwargs: Any) -> str:
        raise KeyError("0123456789abcdef")

    monkeypatch.setattr(Webhook, "deliver", breaks)
    await bench.accept()
    await bench.deliver(dispatcher)
    monkeypatch.undo()
    (late,) = await bench.journal.read(outbox.undelivered, bench.clock())
    assert late.error == "KeyError: '***'"
    await bench.deliver(dispatcher, after=3)
    assert stages(sink) == ["accepted"]


async def test_the_loop_survives_unexpected_errors(
    bench: DispatcherBench, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    real, failures = outbox.distribute, iter([RuntimeError("a bug"), ValueError("another")])

    async def breaks(*args: Any) -> bool:
        if error := next(failures, None):
            raise error
        return await real(*args)

    monkeypatch.setattr(outbox, "distribute", breaks)
    running = asyncio.create_task(dispatcher.run())
    await bench.accept()
    async with asyncio.timeout(60):
        while not sink.taken:
            dispatcher.wake()
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert stages(sink) == ["accepted"]


@pytest.mark.parametrize(
    ("severities", "named", "delivered"),
    [
        ((), None, True),
        (("critical",), None, True),
        (("warning",), None, False),
        ((), ("webhook",), True),
        ((), ("console",), False),
    ],
)
async def test_severity_and_policy_select_channels(
    bench: DispatcherBench, sink: Sink, severities: tuple[str, ...], named: tuple[str, ...] | None, delivered: bool
) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink, severities=severities), console={}), bench.dispatcher()
    bench.policy_set = policy_set(policy(notify=named))
    await bench.accept()
    await bench.deliver(dispatcher)
    assert bool(sink.taken) is delivered


async def test_stages_select_channels(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink, stages=["succeeded", "stuck"])), bench.dispatcher()
    await bench.accept()
    for events in WELL:
        await bench.append(*events)
    await bench.deliver(dispatcher)
    assert stages(sink) == ["succeeded"]


@pytest.mark.parametrize(("waits_for", "events"), [("approval", (PLANNED, HELD)), ("stuck", (PLANNED, STARTED, STUCK))])
async def test_escalation_happens_once_if_nobody_reacts(
    bench: DispatcherBench, sink: Sink, waits_for: str, events: tuple[Any, ...]
) -> None:
    bench.notify = notify(
        webhook=[hook(sink, stages=["failed"], name="boss"), hook(sink, stages=["failed"], name="other")],
        escalate={"after": "10m", "for": [waits_for], "to": ["boss"]},
    )
    dispatcher = bench.dispatcher()
    await bench.accept()
    await bench.append(*events)
    await bench.deliver(dispatcher, after=599)
    assert sink.taken == []
    await bench.deliver(dispatcher, after=2)
    again = bench.dispatcher()  # a restart loses nothing
    await bench.deliver(again, after=600)
    assert stages(sink) == ["escalated"]
    assert ("boss", "escalated", "delivered") in await bench.messages()


async def test_no_escalation_after_a_reaction(bench: DispatcherBench, sink: Sink) -> None:
    escalate = {"after": "10m", "to": ["webhook"]}
    bench.notify, dispatcher = notify(webhook=hook(sink, stages=["failed"]), escalate=escalate), bench.dispatcher()
    await bench.accept()
    await bench.append(PLANNED, HELD)
    sink.trouble = [web.Response(status=500)]
    await bench.deliver(dispatcher, after=601)
    await bench.append(APPROVED)
    await bench.deliver(dispatcher, after=10)
    await bench.deliver(dispatcher, after=6000)
    assert (len(sink.requests), sink.taken) == (1, [])
    assert ("webhook", "escalated", "superseded") in await bench.messages()


async def test_a_policy_that_only_notifies_delivers_once(bench: DispatcherBench, sink: Sink) -> None:
    only = Policy.model_validate({"name": "tell", "match": ['alertname="Overload"'], "notify": ["webhook"]})
    bench.notify, bench.policy_set, dispatcher = (
        notify(webhook=hook(sink), console={}),
        policy_set(only),
        bench.dispatcher(),
    )
    for _ in range(3):
        found = [alert({"alertname": "Overload", "service": "backend", "environment": "production"})]
        await record_notification(bench.journal, only, found, bench.clock())
        await bench.deliver(dispatcher)
    assert [json.loads(raw)["title"] for _, raw in sink.taken] == ["Alert: Overload on backend in production"]


async def test_a_changed_channel_is_opened_again(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()
    await bench.deliver(dispatcher)
    bench.notify = notify(webhook=hook(sink, headers={"X-Team": "shop"}))
    await bench.append(PLANNED, STARTED)
    await bench.deliver(dispatcher)
    assert [headers.get("X-Team") for headers, _ in sink.taken] == [None, "shop"]


async def test_a_removed_channel_keeps_its_pending_notifications(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    sink.trouble = [web.Response(status=500)]
    await bench.accept()
    await bench.deliver(dispatcher)
    bench.notify = notify()
    await bench.append(*WELL[0])
    await bench.deliver(dispatcher, after=60)
    assert await bench.messages() == [("webhook", "accepted", "pending")]
    bench.notify = notify(webhook=hook(sink))
    await bench.deliver(dispatcher, after=60)
    assert stages(sink) == ["accepted"]


async def test_a_renewed_request_for_approval_is_not_delivered_again(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()
    await bench.append(PLANNED, HELD)
    for _ in range(3):
        await bench.append(HELD.model_copy(update={"renewed": True}))
        await bench.deliver(dispatcher)
    assert stages(sink) == ["accepted", "approval_requested"]
    await bench.append(PLANNED, HELD)
    await bench.deliver(dispatcher)
    assert stages(sink) == ["accepted", "approval_requested", "approval_requested"], "another plan is another request"


async def test_links_are_only_in_channels_that_show_them(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify = notify(webhook=[hook(sink, name="open"), hook(sink, name="closed", show_links=True)])
    dispatcher = bench.dispatcher()
    await bench.accept()
    await bench.append(PLANNED, HELD)
    await bench.deliver(dispatcher)
    urls = [json.loads(raw)["approve_url"] for _, raw in sink.taken if json.loads(raw)["stage"] == "approval_requested"]
    assert sorted(urls) == ["", "https://r.test/approve"]
    sink.taken.clear()
    await bench.append(*CANCELLED)
    await bench.deliver(dispatcher)
    assert {json.loads(raw)["approve_url"] for _, raw in sink.taken} == {""}


async def test_reverting_is_delivered_with_its_reason(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()
    await bench.append(PLANNED, STARTED)
    await bench.append(DONE, SECOND)
    await bench.append(HALTED)
    await bench.deliver(dispatcher)
    assert stages(sink)[-1] == "reverting"
    assert "the service <b>is</b> down" in json.loads(sink.taken[-1][1])["happened"]


@pytest.mark.parametrize(
    ("other", "delivered"),
    [
        ({"guard": "mode"}, ["observed"]),
        ({"guard": "cooldown"}, ["denied"]),
        ({"guard": "cooldown", "forced": True}, []),
        ({"guard": "duplicate_alert", "action": "preserve_logs"}, []),
        ({"guard": "cooldown", "result": "preserve", "action": "preserve_logs"}, ["alert"]),
        ({"guard": "policy", "result": "ignore"}, []),
        ({"guard": "mode", "result": "allow", "execution": "e-1"}, []),
    ],
)
async def test_a_decision_without_an_execution_is_delivered_once(
    bench: DispatcherBench, sink: Sink, other: dict[str, Any], delivered: list[str]
) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink, stages=["observed", "denied", "alert"])), bench.dispatcher()
    labels = {"alertname": "BackendDown", "severity": "critical"}
    began = {"labels": labels, "annotations": {}, "starts_at": bench.clock().isoformat()}
    body = {"guard_results": [], "alerts": [began], "running": {"version": "2.1"}, "target": {"version": "2.0"}}
    for number in range(3):
        facts = {
            "id": f"d-{number}", "incident": "i-1", "at": bench.clock(), "last_at": bench.clock(),
            "policy": "backend-down", "service": "backend", "environment": "production", "result": "deny",
            "reason": "not now", "body": json.dumps(body), **other,
        }  # fmt: skip
        await bench.journal.transaction(record_decision, decisions.RecordedDecision.model_validate(facts))
        await bench.deliver(dispatcher)
    assert stages(sink) == delivered
    for _, raw in sink.taken:
        assert (json.loads(raw)["severity"], json.loads(raw)["happened"]) == ("critical", "not now")
