"""At least once, in order, by one replica, and never at the expense of a rollback; on both journals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from responder.decisions.policies import Policy
from responder.journal import decisions, executions, outbox
from responder.notify import Notify
from responder.notify.channels.webhook import Webhook
from responder.operations.respond import note_told
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


async def test_what_happens_is_told_once_and_in_order(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()
    await bench.tells(dispatcher)
    for events in WELL:
        await bench.append(*events)
    for _ in range(3):
        await bench.tells(dispatcher)
    assert stages(sink) == ["accepted", "started", "succeeded"], "a further step is no news for a webhook"
    assert await bench.messages() == [("webhook", stage, "delivered") for stage in stages(sink)]
    assert bench.counted == [("webhook", "delivered")] * 3


async def test_nothing_is_told_of_what_did_not_happen(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()

    async def breaks(tx: Any) -> None:
        known = await executions.load(tx, "e-1")
        await executions.append(tx, known, [PLANNED, STARTED], None)
        raise RuntimeError("the power fails")

    with pytest.raises(RuntimeError):
        await bench.journal.transaction(breaks)
    await bench.tells(dispatcher)
    assert stages(sink) == ["accepted"]


async def test_what_is_overtaken_is_told_as_it_has_become(bench: DispatcherBench, slack: Slack) -> None:
    bench.notify, dispatcher = notify(slack=bot(slack)), bench.dispatcher()
    slack.trouble = [web.Response(status=500), web.Response(status=502)]
    await bench.accept()
    await bench.tells(dispatcher)
    await bench.append(PLANNED, STARTED)
    await bench.tells(dispatcher, after=2)
    await bench.append(DONE, SECOND)
    await bench.append(HEALTHY, SUCCEEDED)
    await bench.tells(dispatcher, after=10)
    assert [body["text"] for body in slack.threads] == ["Rolled back: backend in production 2.1 → 2.0"]
    overtaken = [("slack", stage, "superseded") for stage in ("accepted", "started", "progress")]
    assert await bench.messages() == [*overtaken, ("slack", "succeeded", "delivered")]
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
async def test_what_was_not_taken_is_tried_again_and_shown(
    bench: DispatcherBench, sink: Sink, trouble: Any, why: str
) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    sink.trouble = [trouble(), trouble()]
    await bench.accept()
    await bench.tells(dispatcher)
    (late,) = await bench.journal.read(outbox.undelivered, bench.clock())
    assert (late.channel, late.pending, late.given_up) == ("webhook", 1, 0)
    assert why in late.error
    assert "secret-path" not in late.error, "the path of a webhook is a secret"
    await bench.tells(dispatcher)
    assert len(sink.requests) == 1, "not at once"
    await bench.tells(dispatcher, after=1.5)
    await bench.tells(dispatcher, after=1.5)
    assert len(sink.requests) == 2, "each time later"
    await bench.tells(dispatcher, after=4)
    assert stages(sink)[-1] == "accepted"
    assert await bench.journal.read(outbox.undelivered, bench.clock()) == []


async def test_who_asks_to_be_left_alone_is(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    sink.trouble = [web.Response(status=429, headers={"Retry-After": "120"})]
    await bench.accept()
    await bench.tells(dispatcher)
    await bench.accept("e-2", service="frontend", alerts=())
    await bench.tells(dispatcher, after=100)
    assert len(sink.requests) == 1, "it holds for everything that it would be told"
    await bench.tells(dispatcher, after=30)
    await bench.tells(dispatcher)
    assert sorted(json.loads(raw)["subject"] for _, raw in sink.taken) == ["e-1", "e-2"]


async def test_a_call_for_a_human_does_not_wait_for_what_failed_before(bench: DispatcherBench, slack: Slack) -> None:
    bench.notify, dispatcher = notify(slack=bot(slack)), bench.dispatcher()
    slack.broken = "internal_error"
    await bench.accept()
    for _ in range(7):
        await bench.tells(dispatcher, after=130)
    slack.broken = ""
    await bench.append(PLANNED, STARTED)
    await bench.tells(dispatcher, after=1)
    assert slack.threads == [], "what calls nobody has time"
    await bench.append(STUCK)
    await bench.tells(dispatcher, after=1)
    assert [body["text"][:17] for body in slack.threads] == ["Rollback is stuck"]


async def test_a_call_for_a_human_leaves_alone_who_asks_for_it(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    sink.trouble = [web.Response(status=429, headers={"Retry-After": "120"})]
    await bench.accept()
    await bench.tells(dispatcher)
    await bench.append(PLANNED, STUCK)
    await bench.tells(dispatcher, after=100)
    assert len(sink.requests) == 1
    await bench.tells(dispatcher, after=30)
    await bench.tells(dispatcher)
    assert stages(sink) == ["accepted", "stuck"]


async def test_one_that_nobody_listens_at(bench: DispatcherBench, free_port: int) -> None:
    sink = Sink()
    sink.url = f"http://127.0.0.1:{free_port}"
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()
    await bench.tells(dispatcher)
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
        await bench.tells(second)
    assert stages(sink) == ["accepted", "started"]


async def test_a_crash_between_sending_and_noting_tells_it_again_with_the_same_id(
    bench: DispatcherBench, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()
    real = outbox.delivered

    async def dies(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(outbox, "delivered", dies)
    await bench.tells(dispatcher)
    monkeypatch.setattr(outbox, "delivered", real)
    other = bench.dispatcher()
    await bench.tells(other, after=1)
    assert len(sink.taken) == 1, "the claim of the dead one still stands"
    await bench.tells(other, after=60)
    ids = [headers["X-Responder-Delivery"] for headers, _ in sink.taken]
    assert ids == ["e-1/0", "e-1/0"]


async def test_of_two_replicas_one_tells_it(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify = notify(webhook=hook(sink))
    tellers = [bench.dispatcher() for _ in range(3)]
    for number in range(4):
        await bench.accept(f"e-{number}", service=f"s{number}", alerts=())
    await asyncio.gather(*(bench.tells(dispatcher) for dispatcher in tellers))
    assert sorted(json.loads(raw)["subject"] for _, raw in sink.taken) == ["e-0", "e-1", "e-2", "e-3"]


async def test_what_is_too_old_is_given_up_and_shown(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink), give_up_after="1h"), bench.dispatcher()
    sink.trouble = [web.Response(status=500)]
    await bench.accept()
    await bench.tells(dispatcher)
    await bench.tells(dispatcher, after=3601)
    assert await bench.messages() == [("webhook", "accepted", "given_up")]
    (late,) = await bench.journal.read(outbox.undelivered, bench.clock())
    assert (late.pending, late.given_up, "answered 500" in late.error) == (0, 1, True)
    assert bench.counted == [("webhook", "failed"), ("webhook", "given_up")]
    await bench.append(PLANNED, STARTED)
    await bench.tells(dispatcher)
    assert stages(sink) == ["started"], "what comes later is told"


async def test_a_dead_channel_is_waited_for_by_no_other(bench: DispatcherBench, sink: Sink, slack: Slack) -> None:
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


async def test_a_bug_in_a_channel_is_a_failure_like_any_other(
    bench: DispatcherBench, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()

    async def breaks(*args: Any, **kwargs: Any) -> str:
        raise KeyError("0123456789abcdef")

    monkeypatch.setattr(Webhook, "deliver", breaks)
    await bench.accept()
    await bench.tells(dispatcher)
    monkeypatch.undo()
    (late,) = await bench.journal.read(outbox.undelivered, bench.clock())
    assert late.error == "KeyError: '***'"
    await bench.tells(dispatcher, after=3)
    assert stages(sink) == ["accepted"]


async def test_its_loop_goes_on_whatever_happens(
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
            dispatcher.stir()
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert stages(sink) == ["accepted"]


@pytest.mark.parametrize(
    ("severities", "named", "heard"),
    [
        ((), None, True),
        (("critical",), None, True),
        (("warning",), None, False),
        ((), ("webhook",), True),
        ((), ("console",), False),
    ],
)
async def test_severity_and_policy_choose_who_hears_it(
    bench: DispatcherBench, sink: Sink, severities: tuple[str, ...], named: tuple[str, ...] | None, heard: bool
) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink, severities=severities), console={}), bench.dispatcher()
    bench.policy_set = policy_set(policy(notify=named))
    await bench.accept()
    await bench.tells(dispatcher)
    assert bool(sink.taken) is heard


async def test_stages_choose_who_hears_it(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink, stages=["succeeded", "stuck"])), bench.dispatcher()
    await bench.accept()
    for events in WELL:
        await bench.append(*events)
    await bench.tells(dispatcher)
    assert stages(sink) == ["succeeded"]


@pytest.mark.parametrize(("waits_for", "events"), [("approval", (PLANNED, HELD)), ("stuck", (PLANNED, STARTED, STUCK))])
async def test_where_nobody_reacts_others_are_called_once(
    bench: DispatcherBench, sink: Sink, waits_for: str, events: tuple[Any, ...]
) -> None:
    bench.notify = notify(
        webhook=[hook(sink, stages=["failed"], name="boss"), hook(sink, stages=["failed"], name="other")],
        escalate={"after": "10m", "for": [waits_for], "to": ["boss"]},
    )
    dispatcher = bench.dispatcher()
    await bench.accept()
    await bench.append(*events)
    await bench.tells(dispatcher, after=599)
    assert sink.taken == []
    await bench.tells(dispatcher, after=2)
    again = bench.dispatcher()  # a restart forgets nothing
    await bench.tells(again, after=600)
    assert stages(sink) == ["escalated"]
    assert ("boss", "escalated", "delivered") in await bench.messages()


async def test_nobody_is_called_once_somebody_has_reacted(bench: DispatcherBench, sink: Sink) -> None:
    escalate = {"after": "10m", "to": ["webhook"]}
    bench.notify, dispatcher = notify(webhook=hook(sink, stages=["failed"]), escalate=escalate), bench.dispatcher()
    await bench.accept()
    await bench.append(PLANNED, HELD)
    sink.trouble = [web.Response(status=500)]
    await bench.tells(dispatcher, after=601)
    await bench.append(APPROVED)
    await bench.tells(dispatcher, after=10)
    await bench.tells(dispatcher, after=6000)
    assert (len(sink.requests), sink.taken) == (1, [])
    assert ("webhook", "escalated", "superseded") in await bench.messages()


async def test_what_a_policy_only_wants_told_is_told_once(bench: DispatcherBench, sink: Sink) -> None:
    only = Policy.model_validate({"name": "tell", "match": ['alertname="Overload"'], "notify": ["webhook"]})
    bench.notify, bench.policy_set, dispatcher = (
        notify(webhook=hook(sink), console={}),
        policy_set(only),
        bench.dispatcher(),
    )
    for _ in range(3):
        found = [alert({"alertname": "Overload", "service": "backend", "environment": "production"})]
        await note_told(bench.journal, only, found, bench.clock())
        await bench.tells(dispatcher)
    assert [json.loads(raw)["title"] for _, raw in sink.taken] == ["Alert: Overload on backend in production"]


async def test_a_channel_that_is_changed_is_opened_anew(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()
    await bench.tells(dispatcher)
    bench.notify = notify(webhook=hook(sink, headers={"X-Team": "shop"}))
    await bench.append(PLANNED, STARTED)
    await bench.tells(dispatcher)
    assert [headers.get("X-Team") for headers, _ in sink.taken] == [None, "shop"]


async def test_one_that_is_configured_no_more_keeps_what_it_was_not_told(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    sink.trouble = [web.Response(status=500)]
    await bench.accept()
    await bench.tells(dispatcher)
    bench.notify = notify()
    await bench.append(*WELL[0])
    await bench.tells(dispatcher, after=60)
    assert await bench.messages() == [("webhook", "accepted", "pending")]
    bench.notify = notify(webhook=hook(sink))
    await bench.tells(dispatcher, after=60)
    assert stages(sink) == ["accepted"]


async def test_an_approval_is_asked_for_once_however_often_the_request_is_renewed(
    bench: DispatcherBench, sink: Sink
) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()
    await bench.append(PLANNED, HELD)
    for _ in range(3):
        await bench.append(HELD.model_copy(update={"renewed": True}))
        await bench.tells(dispatcher)
    assert stages(sink) == ["accepted", "approval_requested"]
    await bench.append(PLANNED, HELD)
    await bench.tells(dispatcher)
    assert stages(sink) == ["accepted", "approval_requested", "approval_requested"], "another plan is another request"


async def test_links_go_only_where_they_may(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify = notify(webhook=[hook(sink, name="open"), hook(sink, name="closed", show_links=True)])
    dispatcher = bench.dispatcher()
    await bench.accept()
    await bench.append(PLANNED, HELD)
    await bench.tells(dispatcher)
    urls = [json.loads(raw)["approve_url"] for _, raw in sink.taken if json.loads(raw)["stage"] == "approval_requested"]
    assert sorted(urls) == ["", "https://r.test/approve"]
    sink.taken.clear()
    await bench.append(*CANCELLED)
    await bench.tells(dispatcher)
    assert {json.loads(raw)["approve_url"] for _, raw in sink.taken} == {""}


async def test_reverting_is_told_with_its_reason(bench: DispatcherBench, sink: Sink) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink)), bench.dispatcher()
    await bench.accept()
    await bench.append(PLANNED, STARTED)
    await bench.append(DONE, SECOND)
    await bench.append(HALTED)
    await bench.tells(dispatcher)
    assert stages(sink)[-1] == "reverting"
    assert "the service <b>is</b> down" in json.loads(sink.taken[-1][1])["happened"]


@pytest.mark.parametrize(
    ("other", "told_as"),
    [
        ({"guard": "mode"}, ["observed"]),
        ({"guard": "cooldown"}, ["refused"]),
        ({"guard": "cooldown", "forced": True}, []),
        ({"guard": "episode", "action": "preserve_logs"}, []),
        ({"guard": "cooldown", "result": "preserve", "action": "preserve_logs"}, ["alert"]),
        ({"guard": "policy", "result": "ignore"}, []),
        ({"guard": "mode", "result": "allow", "execution": "e-1"}, []),
    ],
)
async def test_a_decision_that_begins_nothing_is_told_once(
    bench: DispatcherBench, sink: Sink, other: dict[str, Any], told_as: list[str]
) -> None:
    bench.notify, dispatcher = notify(webhook=hook(sink, stages=["observed", "refused", "alert"])), bench.dispatcher()
    labels = {"alertname": "BackendDown", "severity": "critical"}
    began = {"labels": labels, "annotations": {}, "starts_at": bench.clock().isoformat()}
    body = {"guard_results": [], "alerts": [began], "running": {"version": "2.1"}, "target": {"version": "2.0"}}
    for number in range(3):
        facts = {
            "id": f"d-{number}", "incident": "i-1", "at": bench.clock(), "last_at": bench.clock(),
            "policy": "backend-down", "service": "backend", "environment": "production", "result": "deny",
            "reason": "not now", "body": json.dumps(body), **other,
        }  # fmt: skip
        await bench.journal.transaction(decisions.record, decisions.RecordedDecision.model_validate(facts))
        await bench.tells(dispatcher)
    assert stages(sink) == told_as
    for _, raw in sink.taken:
        assert (json.loads(raw)["severity"], json.loads(raw)["happened"]) == ("critical", "not now")
