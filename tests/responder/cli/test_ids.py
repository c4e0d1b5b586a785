"""A unique beginning of an ID is enough, and no ID is needed where only one rollback can be meant."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from responder.journal import executions
from responder.rollback.events import ApprovalRequested, Approved, Closed, Event, Planned, RetriesExhausted
from responder.services import rollbacks
from tests.responder.cli.test_main import Run, alone, ask, run  # noqa: F401
from tests.responder.examples import accepted, plan
from tests.responder.web.conftest import ResponderServer

pytestmark = pytest.mark.usefixtures("alone")
NOW = datetime.now(UTC)

IDS = ("20261123-231500-4f2a9c1b", "20261123-231507-aaaaaaaa", "20261201-080000-bbbbbbbb")
WAITING = (
    Planned(at=NOW, plan=plan()),
    ApprovalRequested(at=NOW, reason="mode approve", until=NOW + timedelta(hours=1)),
)
STUCK = (RetriesExhausted(at=NOW, reason="too often"),)
CLOSED = (Closed(at=NOW, outcome="cancelled", by="responder", reason=""),)


async def begin(responder: ResponderServer, execution_id: str, service: str, events: tuple[Event, ...] = ()) -> None:
    event = accepted(service=service, at=NOW, received_at=NOW)
    await responder.journal.transaction(rollbacks.accept, execution_id, event)
    if events:
        await responder.append(execution_id, *events)


@pytest.fixture
async def three(responder: ResponderServer) -> ResponderServer:
    for execution_id, service in zip(IDS, ("backend", "web", "queue"), strict=True):
        await begin(responder, execution_id, service, CLOSED)
    return responder


TAKE_AN_ID: list[tuple[str, ...]] = [
    ("history",), ("report",), ("watch",), ("evidence",), ("approve",), ("stop",), ("close", "--reason", "x"),
]  # fmt: skip


async def test_a_unique_beginning(ask: Run, three: ResponderServer) -> None:  # noqa: F811
    for argv in TAKE_AN_ID:
        whole = await ask(*argv, IDS[1])
        assert argv == ("watch",) or IDS[1] in whole.out + whole.err
        for beginning in ("20261123-231507", "20261123-231507-a"):
            assert await ask(*argv, beginning) == whole, argv


async def test_an_ambiguous_beginning_lists_the_candidates(ask: Run, three: ResponderServer) -> None:  # noqa: F811
    for argv in (*TAKE_AN_ID, ("history", "--before")):
        code, out, err = await ask(*argv, "20261123-2315")
        assert (code, out, "more than one begins with '20261123-2315'" in err) == (2, "", True)
        assert f"{IDS[1]} (web 2.1 → 2.0, cancelled), {IDS[0]} (backend 2.1 → 2.0, cancelled)" in err
        assert IDS[2] not in err


async def test_history_before_a_beginning(ask: Run, three: ResponderServer) -> None:  # noqa: F811
    whole = json.loads((await ask("history", "--before", IDS[2], "--output", "json")).out)
    assert json.loads((await ask("history", "--before", "202612", "--output", "json")).out) == whole


async def test_a_whole_id_that_begins_others(ask: Run, responder: ResponderServer) -> None:  # noqa: F811
    await begin(responder, "r1", "backend", CLOSED)
    await begin(responder, "r10", "web", CLOSED)
    body = json.loads((await ask("history", "r1", "--output", "json")).out)
    assert body["id"] == "r1"


async def test_a_beginning_is_no_pattern(ask: Run, three: ResponderServer) -> None:  # noqa: F811
    for beginning in ("%", "_", "2026%", "R1", "\\", "zzz"):
        code, _, err = await ask("history", beginning)
        assert (code, err) == (2, f"responder: execution {beginning} does not exist\n")


ONLY: list[tuple[tuple[str, ...], tuple[Event, ...], str]] = [
    (("approve",), WAITING, "awaits approval"),
    (("stop", "--reason", "x"), WAITING, "is running"),
    (("close", "--reason", "x"), STUCK, "is stuck"),
    (("watch",), STUCK, "is open"),
    (("evidence",), STUCK, "is open"),
]


@pytest.mark.parametrize(("argv", "events", "state"), ONLY, ids=lambda value: value[0] if value else "")
async def test_without_an_id(
    ask: Run,  # noqa: F811
    three: ResponderServer,
    argv: tuple[str, ...],
    events: tuple[Event, ...],
    state: str,
) -> None:
    code, out, err = await ask(*argv)
    assert (code, out, err.startswith(f"responder: no rollback {state}")) == (2, "", True), err
    await begin(three, "20261202-000000-cccccccc", "shop", events)
    given, missing = "20261202-000000-cccccccc", await ask(*argv)
    assert missing == await ask(*argv, given) or given in missing.out + missing.err
    if argv[0] in ("watch", "evidence", "stop"):  # these do not change what the next one sees
        await begin(three, "20261202-000001-dddddddd", "cart", events)
        code, out, err = await ask(*argv)
        assert (code, out, f"more than one rollback {state}" in err) == (2, "", True)
        assert "cccccccc (shop 2.1 → 2.0" in err and "dddddddd (cart 2.1 → 2.0" in err


async def test_approve_takes_only_one_that_awaits_approval(ask: Run, three: ResponderServer) -> None:  # noqa: F811
    await begin(three, "20261202-000000-cccccccc", "shop", STUCK)
    assert (await ask("approve")).err.startswith("responder: no rollback awaits approval")
    await begin(three, "20261202-000001-dddddddd", "cart", WAITING)
    assert "20261202-000001-dddddddd" in "".join(map(str, await ask("approve")))


async def test_the_api_finds_executions_by_the_beginning_of_their_id(three: ResponderServer) -> None:
    async def find(query: str) -> tuple[int, Any]:
        status, body = await three.get(f"/api/v1/executions?{query}")
        return status, [row["id"] for row in body["executions"]] if status == 200 else body["where"]

    assert await find("id=20261123") == (200, [IDS[1], IDS[0]])
    assert await find("id=20261123&limit=1") == (200, [IDS[1]])
    assert await find("id=2026112323") == (200, [])  # also where a collation ignores hyphens
    assert await find("id=2&service=web") == (400, "id")


async def test_history_tells_the_alert_and_every_event(ask: Run, responder: ResponderServer) -> None:  # noqa: F811
    await responder.good_then_new()
    why = "errors [notice]\non\tcheckout \x1b[31m"
    event = accepted(reason=why, at=NOW, received_at=NOW)
    await responder.journal.transaction(rollbacks.accept, "r1", event)
    approved = Approved(at=NOW, by="Alice (by link)", plan_hash=plan().hash)
    await responder.append("r1", *WAITING, approved, Closed(at=NOW, outcome="succeeded", by="responder", reason=""))
    shown = "errors [notice] on checkout \\x1b[31m"
    for command in (("history",), ("history", "r1")):
        out = (await ask(*command)).out
        assert shown in out
        assert "�" not in out
    lines = {line.split()[2]: line for line in out.splitlines() if line[:2].isdigit() and " UTC " in line}
    assert "by Alice (by link), plan" in lines["approved"]
    assert f"steps, plan {plan().hash}" in lines["planned"]
    assert all(len(line.split()) > 3 for line in lines.values()), lines
    row = (await executions_of(responder))[0]
    assert row["reason"] == why


async def executions_of(responder: ResponderServer) -> list[Any]:
    return list(await responder.journal.read(executions.find))


async def test_shells_complete_ids_and_services(
    run: Run,  # noqa: F811
    three: ResponderServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await begin(three, "20261202-000000-cccccccc", "shop", STUCK)
    monkeypatch.setenv("RESPONDER_URL", str(three.client.make_url("")))
    monkeypatch.setenv("_RESPONDER_COMPLETE", "bash_complete")
    for line, offered in (
        ("history 202611", [IDS[1], IDS[0]]),
        ("watch 2026", ["20261202-000000-cccccccc"]),
        ("close 2026", ["20261202-000000-cccccccc"]),
        ("approve 2026", []),
        ("versions ba", ["backend"]),
        ("status --service ba", ["backend"]),
        ("status --url http://127.0.0.1:9 --service ba", []),
    ):
        words = ["responder", *line.split()]
        monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        assert await run() == (0, "\n".join(f"plain,{name}" for name in offered) + "\n", ""), line
