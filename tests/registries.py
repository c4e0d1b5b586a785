"""A registry that has grown: so many services, so many deployments of each, written by the database itself."""

from __future__ import annotations

import sqlite3

# Each is deployed every minute in turn. Version n of a service is `n.0`; four of five were good once, and one in fifty
# must stay. The newest deployment of each is a candidate in one of ten services, else good.
_NUMBERS = {
    "sqlite": "WITH RECURSIVE s (s) AS (SELECT 0 UNION ALL SELECT s + 1 FROM s WHERE s < {services} - 1),"
    " n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < {each} - 1) ",
    "postgres": "WITH s AS (SELECT generate_series(0, {services} - 1) AS s),"
    " n AS (SELECT generate_series(0, {each} - 1) AS n) ",
}
_AT = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%f000+00:00', '2026-01-01', '+' || (n * {services} + s) || ' seconds')",
    "postgres": "timestamptz '2026-01-01 00:00:00+00' + (n * {services} + s) * interval '1 second'",
}
_STATUS = """CASE WHEN n = {each} - 1 AND s % 10 = 0 THEN 'candidate'
                  WHEN n < {each} - 1 AND n % 5 = 0 THEN 'bad' ELSE 'good' END"""
_SEED = (
    """INSERT INTO versions (service, environment, version, status, reason, status_at, artifact, no_rollback,
                             provenance, deployed_at, revision)
       {numbers} SELECT 's' || s, 'production', n || '.0', {status}, 'seeded', {at}, '',
                        CASE WHEN n % 50 = 7 THEN 'CVE' ELSE '' END, '', {at}, 1 FROM s, n""",
    """INSERT INTO recorded_deployments (id, service, environment, version, artifact, at, recorded_by,
                                         rolled_back_by, provenance)
       {numbers} SELECT 's' || s || '-' || n, 's' || s, 'production', n || '.0', '', {at}, 'ci', NULL, '' FROM s, n""",
    """INSERT INTO artifacts (id, service, environment, platform, version, artifact, provenance, at, recorded_by)
       {numbers} SELECT 's' || s || '-' || n, 's' || s, 'production', 'android', n || '.0', 'versionCode=' || n, '',
                        {at}, 'ci' FROM s, n""",
    """INSERT INTO marks (service, environment, version, revision, at, marked_by, status, reason, no_rollback)
       {numbers} SELECT 's' || s, 'production', n || '.0', 1, {at}, 'ci', {status}, 'seeded', '' FROM s, n""",
    """INSERT INTO client_rules (service, environment, platform, revision, min_version, blocked_versions, flags)
       {numbers} SELECT 's' || s, 'production', 'android', 5, '', '["0.0"]', '{{}}' FROM s, n WHERE n = 0""",
    """INSERT INTO client_rule_changes (service, environment, platform, revision, at, changed_by, reason, min_version,
                                        blocked_versions, flags)
       {numbers} SELECT 's' || s, 'production', 'android', n + 1, {at}, 'ci', 'seeded', '', '["0.0"]', '{{}}'
       FROM s, n WHERE n < 5""",
    """INSERT INTO requirements (service, environment, version, needs, versions)
       {numbers} SELECT 's' || s, 'production', n || '.0', 's1', '>=' || n FROM s, n WHERE s <> 1""",
    """INSERT INTO running (service, environment, platform, id, version, artifact, provenance, at, recorded_by, status)
       {numbers} SELECT 's' || s, 'production', p, 's' || s || '-' || n, n || '.0', '', '', {at}, 'ci', {status}
       FROM s, n, (SELECT '' AS p UNION ALL SELECT 'android') AS p WHERE n = {each} - 1""",
)


async def seed(state: str, *, services: int, each: int) -> None:
    """Fills a fresh journal, and lets the database count what it has."""
    kind = "sqlite" if state.startswith("sqlite") else "postgres"
    words = {"services": services, "each": each}
    values = {
        "numbers": _NUMBERS[kind].format(**words),
        "at": _AT[kind].format(**words),
        "status": _STATUS.format(**words),
    }
    statements = [sql.format(**words, **values) for sql in _SEED]
    if kind == "sqlite":
        database = sqlite3.connect(state.removeprefix("sqlite://"))
        with database:
            for sql in statements:
                database.execute(sql)
        database.close()
        return
    import asyncpg

    connection = await asyncpg.connect(state)
    for sql in statements:
        await connection.execute(sql)
    await connection.execute("ANALYZE")
    await connection.close()
