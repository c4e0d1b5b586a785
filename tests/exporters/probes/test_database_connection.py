"""PostgreSQL and Redis: running, refusing, hanging, stopped and restarted."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from exporters.clients.connections import Connections
from exporters.runner import run
from tests.exporters.not_stalled import run_not_stalled


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def test_postgres_answers(ask: Any, postgres: Any) -> None:
    result, series = await ask(type="database_connection", dsn=postgres.dsn, query="SELECT 40 + 2", expected=42)
    assert result.success, result.why
    assert series["probe_database_connect_seconds"] > 0
    assert series["probe_database_query_seconds"] > 0


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT 1 / 0", "query"),
        ("SELECT nonsense", "query"),
        ("CREATE TABLE t (x int)", "query"),
        ("SELECT $1::int", "query"),
        ("SELECT '294276-01-01'::timestamp", "query"),
        ("SELECT 41", "result"),
        ("SELECT 42 WHERE false", "result"),
    ],
)
async def test_a_failed_query_has_its_own_reason(ask: Any, postgres: Any, query: str, reason: str) -> None:
    result, series = await ask(type="database_connection", dsn=postgres.dsn, query=query, expected="42")
    assert result.reason == reason
    assert "probe_database_connect_seconds" in series


async def test_a_slow_query_is_a_timeout(ask: Any, postgres: Any) -> None:
    result, _ = await ask(
        type="database_connection", dsn=postgres.dsn, query="SELECT pg_sleep(60)", timeout="300ms", fresh_every=9
    )
    assert result.reason == "timeout"


async def test_a_wrong_password_is_never_shown(ask: Any, postgres: Any) -> None:
    dsn = postgres.dsn.replace("s3cret-pw", "wr0ng-pw")
    result, series = await ask(type="database_connection", dsn=dsn)
    assert result.reason == "connect"
    assert "authentication failed" in result.why
    assert "wr0ng-pw" not in repr(result) + repr(result.log)
    assert "probe_database_query_seconds" not in series


async def test_the_password_can_be_separate_from_the_dsn(ask: Any, postgres: Any) -> None:
    dsn = postgres.dsn.replace(":s3cret-pw", "")
    result, _ = await ask(type="database_connection", dsn=dsn, password="s3cret-pw")
    assert result.success, result.why


@pytest.mark.parametrize("scheme", ["postgresql", "redis"])
async def test_refused(ask: Any, port: int, scheme: str) -> None:
    result, _ = await ask(type="database_connection", dsn=f"{scheme}://u:s3cret-pw@127.0.0.1:{port}/0")
    assert result.reason == "connect"
    assert "s3cret" not in repr(result) + repr(result.log)


@pytest.mark.parametrize("scheme", ["postgresql", "redis", "rediss"])
async def test_a_silent_server_is_a_timeout(ask: Any, talk: Any, scheme: str) -> None:
    dsn = f"{scheme}://u:pw@127.0.0.1:{await talk(silent)}/0"
    result, _ = await ask(type="database_connection", dsn=dsn, timeout="500ms")
    assert result.reason == "timeout"


async def test_loading_system_certificates_delays_no_other_probe(
    make: Any, connections: Connections, talk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*_: Any) -> ssl.SSLContext:
        time.sleep(0.5)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr(ssl, "create_default_context", slowly)
    check = make(type="database_connection", dsn=f"rediss://127.0.0.1:{await talk(silent)}/0", timeout="2s")
    # On the event loop it would be Unable every time: 0.5 s of 2 s exceeds the allowed loss.
    result, _ = await run_not_stalled(check, connections)
    assert result.reason == "timeout"


@pytest.mark.parametrize("scheme", ["postgresql", "redis"])
async def test_another_protocol_fails(ask: Any, answer: Any, scheme: str) -> None:
    url = await answer(b"HTTP/1.1 400 Bad Request\r\n\r\n", seen=[])
    dsn = f"{scheme}://u:pw@{url.removeprefix('http://')}0"
    result, _ = await ask(type="database_connection", dsn=dsn, timeout="300ms")
    assert result.reason in ("connect", "timeout")


async def test_every_nth_probe_makes_a_new_connection(make: Any, connections: Connections, postgres: Any) -> None:
    check = make(type="database_connection", dsn=postgres.dsn, query="SELECT pg_backend_pid()", fresh_every=3)
    fresh = []
    for _ in range(7):
        result, output = await run(check, connections)
        assert result.success, result.why
        fresh.append("probe_database_connect_seconds" in {family.name for family in output.collect()})
    assert fresh == [True, False, False, True, False, False, True]


async def test_concurrent_scrapes_do_not_share_a_connection(make: Any, connections: Connections, postgres: Any) -> None:
    check = make(type="database_connection", dsn=postgres.dsn, query="SELECT pg_sleep(0.05)", fresh_every=100)
    results = await asyncio.gather(*(run(check, connections) for _ in range(4)))
    assert all(result.success for result, _ in results)


async def test_a_restarted_server_is_reconnected(make: Any, connections: Connections, postgres: Any) -> None:
    kept = make(id="kept", type="database_connection", dsn=postgres.dsn, fresh_every=100)
    fresh = make(id="fresh", type="database_connection", dsn=postgres.dsn)

    async def holds() -> list[bool]:
        return [(await run(check, connections))[0].success for check in (kept, fresh)]

    assert await holds() == [True, True]
    await asyncio.to_thread(postgres.stop)
    assert await holds() == [False, False]
    await asyncio.to_thread(postgres.start)
    assert await holds() == [True, True]
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(postgres.start)
    # The kept connection died with the server, but new connections succeed.
    assert await holds() == [True, True]


async def test_redis_answers(ask: Any, redis_port: int) -> None:
    dsn = f"redis://:s3cret-pw@127.0.0.1:{redis_port}/0"
    result, series = await ask(type="database_connection", dsn=dsn, expected="PONG")
    assert result.success, result.why
    assert series["probe_database_query_seconds"] > 0


@pytest.mark.parametrize(
    ("password", "query", "reason"),
    [
        ("s3cret-pw", "NONSENSE", "query"),
        ("s3cret-pw", "GET nothing", "result"),
        ("wr0ng-pw", "PING", "connect"),
    ],
)
async def test_redis_fails(ask: Any, redis_port: int, password: str, query: str, reason: str) -> None:
    dsn = f"redis://:{password}@127.0.0.1:{redis_port}/0"
    result, _ = await ask(type="database_connection", dsn=dsn, query=query, expected="PONG")
    assert result.reason == reason, result.why
    assert password not in repr(result) + repr(result.log)


async def test_redis_keeps_its_connection(make: Any, connections: Connections, redis_port: int) -> None:
    check = make(type="database_connection", dsn=f"redis://:s3cret-pw@127.0.0.1:{redis_port}/0", fresh_every=2)
    assert [(await run(check, connections))[0].success for _ in range(4)] == [True] * 4


def backends(asking: str) -> list[psutil.Process]:
    """The PostgreSQL processes that run a query now, by their titles."""
    titles = {p: " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])}
    return [process for process, title in titles.items() if title.startswith("postgres: ") and asking in title]


async def test_a_backend_that_freezes_during_a_query_is_a_timeout(ask: Any, postgres: Any) -> None:
    """Waiting for its ROLLBACK would never end: the sample would be missing instead of failed."""
    query = {"dsn": postgres.dsn, "query": "SELECT pg_sleep(9)", "timeout": "2s"}
    asking = asyncio.create_task(ask(type="database_connection", **query))
    frozen: list[psutil.Process] = []
    try:
        async with asyncio.timeout(60):
            while not frozen:
                await asyncio.sleep(0.01)
                frozen = backends("SELECT")
        for process in frozen:
            process.suspend()
        result, _ = await asyncio.wait_for(asking, 60)
    finally:
        for process in frozen:
            process.resume()
    assert result.reason == "timeout"


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        ("postgresql://u:12#34secret@h/db", "write %23"),
        ("postgresql://h/db?sslmode=bogus", "'bogus', expected one of disable"),
        ("postgresql://h/db?sslrootcert=/nowhere/ca.pem", "/nowhere/ca.pem, which does not exist"),
        ("redis://h/0?foo=bar", "an option that the driver does not know"),
        ("redis://h/abc", "a database that is not a number"),
    ],
)
def test_an_invalid_dsn_is_rejected(make: Any, dsn: str, message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)) as raised:
        make(type="database_connection", dsn=dsn)
    assert "34secret" not in str([error["msg"] for error in raised.value.errors()])


def test_an_unparsable_command_is_rejected(make: Any) -> None:
    with pytest.raises(ValidationError, match="no closing quotation"):
        make(type="database_connection", dsn="redis://h/0", query='GET "abc')


def test_a_dsn_without_a_password_is_not_secret(make: Any) -> None:
    assert "redis://h:6379/0" not in make(type="database_connection", dsn="redis://h:6379/0").secrets()
    assert "redis://:pw-of-it@h/0" in make(type="database_connection", dsn="redis://:pw-of-it@h/0").secrets()
