"""A long history: that many closed rollbacks of that many services, with everything recorded about each.

The database generates it. One rollback was accepted every two minutes until now, so a longer history is only older.
It is written with the first schema: opening the journal then migrates it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

from responder.journal.database import load_migrations
from responder.rollback.events import Closed, Event, Planned, StepCompleted, StepStarted
from tests.responder import examples

EVERY = timedelta(minutes=2)
_TOOK = timedelta(seconds=50)
_AT = examples.NOW.isoformat().replace("+00:00", "Z")

_TEXT = "strftime('%Y-%m-%dT%H:%M:%f000+00:00', '{first}', '+' || ({seconds}) || ' seconds')"
_TIMESTAMP = "timestamptz '{first}' + ({seconds}) * interval '1 second'"
_NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {executions} - 1)",
    "postgres": "WITH numbers AS (SELECT generate_series(0, {executions} - 1) AS n)",
}
_ID = {
    "sqlite": "strftime('%Y%m%d-%H%M%S-', {at}) || printf('%08x', n)",
    "postgres": "to_char({at}, 'YYYYMMDD-HH24MISS-') || lpad(to_hex(n), 8, '0')",
}
_ISO = {
    "sqlite": "{at}",
    "postgres": """to_char({at}, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')""",
}
_ORDER = {"sqlite": "", "postgres": "ORDER BY n, e.seq"}
"""SQLite joins in this order anyway, and would sort gigabytes."""
_MADE = """CREATE TEMPORARY TABLE made AS {numbers}
SELECT n, {id} AS id, {at} AS at, {ended} AS ended_at, {iso} AS iso, 's' || (n % {services}) AS service,
       'policy-' || (n % {services} % 7) AS policy, (n / {services} + 2) || '.0' AS from_version,
       (n / {services} + 1) || '.0' AS to_version, n % 10 <> 2 AS changed,
       CASE n % 10 WHEN 0 THEN 'reverted' WHEN 1 THEN 'failed' WHEN 2 THEN 'cancelled' ELSE 'succeeded' END AS outcome
FROM numbers"""
_FILL = (
    """INSERT INTO executions (id, service, environment, policy, strategy, from_version, to_version, requested_by,
           state, outcome, reason, seq, onset_at, firing_at, accepted_at, acted_at, ended_at, duration_seconds, changed,
           plan_hash, worker)
       SELECT id, service, 'production', policy, 'immediate', from_version, to_version, 'alertmanager', 'closed',
              outcome, 'it is down', 6, at, at, at, at, ended_at, 50, changed, 'p' || n, 'worker-1' FROM made""",
    """INSERT INTO parts (execution, service, environment, strategy, from_version, to_version, accepted_at, live)
       SELECT id, service, 'production', 'immediate', from_version, to_version, at, FALSE FROM made""",
    """INSERT INTO opening_alerts (policy, service, environment, fingerprint, starts_at, deployed_at, execution,
           alertname, labels, summary, generator_url)
       SELECT policy, service, 'production', 'f' || (n % {services}), at, at, id, 'Down', '{{}}', 'down', ''
       FROM made""",
    """INSERT INTO events (execution, seq, at, type, state, step, title, note, body)
       SELECT id, e.seq, CASE WHEN e.seq = 6 THEN ended_at ELSE at END, e.type, e.state, e.step, e.title, NULL,
              replace(replace(e.body, '@service', service), '{stamp}', iso)
       FROM made CROSS JOIN bodies AS e {order}""",
    """INSERT INTO decisions (id, incident, at, last_at, times, action, policy, service, environment, result, guard,
           reason, execution, forced, needs_human, body)
       SELECT id, 'i' || n, at, at, 1, 'roll_back', policy, service, 'production', 'allow', 'freeze_window', 'allowed',
              id, FALSE, FALSE, '{{"alerts": [], "guard_results": []}}' FROM made""",
    """INSERT INTO decisions (id, incident, at, last_at, times, action, policy, service, environment, result, guard,
           reason, execution, forced, needs_human, body)
       SELECT id || '-d', 'd' || n, ended_at, ended_at, 3, 'roll_back', policy, service, 'production', 'deny',
              CASE WHEN n % 5 = 0 THEN 'mode' ELSE 'cooldown' END, 'denied', NULL, FALSE, FALSE,
              '{{"alerts": [], "guard_results": []}}' FROM made""",
    """INSERT INTO evidence (id, execution, policy, service, environment, deployment_id, state, requested_at, alerts,
           kept_at, location, files)
       SELECT id, id, policy, service, 'production', 'd' || n, 'deleted', at, '[]', at, '/evidence/' || id, 3
       FROM made""",
    """INSERT INTO evidence (id, policy, service, environment, deployment_id, state, requested_at, alerts)
       SELECT id || '-e', 'logs-only', service, 'production', 'd' || n, 'deleted', at, '[]'
       FROM made WHERE n % 10 = 5""",
    """INSERT INTO evidence_alerts (policy, service, environment, fingerprint, starts_at, evidence)
       SELECT 'logs-only', service, 'production', 'f' || n, at, id || '-e' FROM made WHERE n % 10 = 5""",
    """INSERT INTO threads (subject, channel, reference, due_at)
       SELECT id, 'slack', 'r' || n, at FROM made""",
    """INSERT INTO messages (subject, channel, occasion, seq, stage, at, state, state_at)
       SELECT id, 'slack', CAST(seq AS TEXT), seq, type, at, 'delivered', at FROM made CROSS JOIN
              (SELECT 0 AS seq, 'accepted' AS type UNION ALL SELECT 6, 'ended') AS e""",
)


def _bodies() -> list[tuple[Any, ...]]:
    """The events of one rollback: seq, type, state, step, title and body."""
    at, plan = examples.NOW, examples.plan(examples.change(), examples.gate())
    accepted: dict[str, Any] = {"service": "@service", "alerts": (examples.alert(),), "at": at, "received_at": at}
    events: tuple[tuple[Event, str], ...] = (
        (examples.accepted(**accepted), "accepted"),
        (Planned(at=at, plan=plan), "running"),
        (StepStarted(at=at, step=0, title=str(plan.steps[0])), "running"),
        (StepCompleted(at=at, step=0, changed=True), "running"),
        (StepStarted(at=at, step=1, title=str(plan.steps[1])), "running"),
        (StepCompleted(at=at, step=1, changed=False), "running"),
        (Closed(at=at, outcome="succeeded", by="responder", reason="verified"), "closed"),
    )
    return [
        (seq, event.type, state, getattr(event, "step", None), getattr(event, "title", None), event.model_dump_json())
        for seq, (event, state) in enumerate(events)
    ]


def _statements(kind: str, executions: int, services: int, newest: datetime) -> list[str]:
    """The SQL that fills a journal, from the temporary table `bodies`."""
    first = (newest - EVERY * executions).astimezone(UTC).isoformat()
    time = _TEXT if kind == "sqlite" else _TIMESTAMP

    def at(more: timedelta = timedelta()) -> str:
        seconds = f"n * {EVERY.total_seconds():.0f} + {more.total_seconds():.0f}"
        return time.format(first=first, seconds=seconds)

    values = {"executions": executions, "services": services, "at": at(), "ended": at(_TOOK), "stamp": _AT}
    values["numbers"], values["order"] = _NUMBERS[kind].format(**values), _ORDER[kind]
    values["id"], values["iso"] = _ID[kind].format(**values), _ISO[kind].format(**values)
    return [sql.format(**values) for sql in (_MADE, *_FILL)]


_IN_BULK = {
    "sqlite": "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -500000",
    "postgres": "SET session_replication_role = replica; SET work_mem = '500MB'",  # the rows satisfy all foreign keys
}
"""Settings with which a million rollbacks take minutes: no undo, no check of foreign keys, more memory."""

_BODIES = "CREATE TEMPORARY TABLE bodies (seq INTEGER, type TEXT, state TEXT, step INTEGER, title TEXT, body TEXT)"


async def fill(state: str, *, executions: int, services: int, newest: datetime | None = None) -> None:
    """Creates a journal with the first schema and this history in a new file or database."""
    newest = newest or datetime.now(UTC)
    if state.startswith("sqlite"):
        _fill_file(state.removeprefix("sqlite://"), _statements("sqlite", executions, services, newest))
        return
    import asyncpg

    connection = await asyncpg.connect(state)
    try:
        await connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
        await connection.execute(f"{load_migrations()[0]}; INSERT INTO schema_version VALUES (1); {_BODIES}")
        await connection.executemany("INSERT INTO bodies VALUES ($1, $2, $3, $4, $5, $6)", _bodies())
        await connection.execute(_IN_BULK["postgres"])
        for sql in _statements("postgres", executions, services, newest):
            await connection.execute(sql)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


def _fill_file(file: str, statements: list[str]) -> None:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.executescript(f"{_IN_BULK['sqlite']}; {load_migrations()[0]}; PRAGMA user_version = 1; BEGIN")
        connection.execute(_BODIES)
        connection.executemany("INSERT INTO bodies VALUES (?, ?, ?, ?, ?, ?)", _bodies())
        for sql in statements:
            connection.execute(sql)
        connection.execute("COMMIT")
