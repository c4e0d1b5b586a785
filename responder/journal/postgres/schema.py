"""The schema of the journal in PostgreSQL: checked without a change, or migrated."""

from __future__ import annotations

import re
from typing import Any

from responder.errors import ConfigError
from responder.journal.database import load_migrations
from responder.journal.postgres.sessions import ask

_MIGRATING = 0x726F6C6C  # the key of the advisory lock: an arbitrary number, 'roll' in ASCII
_MIGRATES_WITHIN = 300.0
"""Timeout of one migration statement, in seconds. Building an index on a long history takes time."""
_VIEWS = (
    "rollback_history",
    "rollback_parts",
    "rollback_steps",
    "rollback_events",
    "rollback_alerts",
    "rollback_decisions",
    "rollback_archive",
    "deployments",
    "service_versions",
    "evidence_kept",
    "platform_deployments",
    "version_marks",
    "version_requirements",
    "client_changes",
)


_TRIGGER = re.compile(r"^CREATE TRIGGER (\w+)(.*?)^BEGIN$(.*?)^END;$", flags=re.MULTILINE | re.DOTALL)
_AS_FUNCTION = r"""
CREATE FUNCTION \1() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN\3 RETURN NULL; END $$;
CREATE TRIGGER \1\2EXECUTE FUNCTION \1();
"""


async def check_schema(connection: Any) -> None:
    value, known = connection.fetchval, len(load_migrations())
    role, schema = await ask(value, "SELECT current_user"), await ask(value, "SELECT current_schema()")
    if await ask(value, "SELECT to_regclass('schema_version')") is None:
        if not await ask(value, "SELECT has_schema_privilege(current_schema(), 'CREATE')"):
            grant = f"GRANT CREATE ON SCHEMA {schema} TO {role}"
            raise ConfigError.of("state", f"role {role} cannot create tables; {grant}")
        return
    done = await ask(value, "SELECT coalesce(max(version), 0) FROM schema_version")
    _refuse_newer(done, known)
    owns = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('schema_version')"
    if done < known and not await ask(value, owns):
        raise ConfigError.of("state", f"role {role} cannot migrate the tables: they belong to another role")


def _refuse_newer(done: int, known: int) -> None:
    if done > known:
        problem = f"the journal was written by a newer version of the responder (schema {done}, known {known})"
        raise ConfigError.of("state", problem)


async def migrate(connection: Any) -> None:
    """Runs the missing migrations, forward only, one replica at a time, all in one transaction."""
    migrations = load_migrations()
    run = connection.execute
    await ask(run, "BEGIN")
    await ask(run, f"SET LOCAL statement_timeout = {int(_MIGRATES_WITHIN * 1000)}")
    await ask(run, "SELECT pg_advisory_xact_lock($1)", _MIGRATING)
    await ask(run, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
    done = await ask(connection.fetchval, "SELECT coalesce(max(version), 0) FROM schema_version")
    _refuse_newer(done, len(migrations))
    for number, sql in enumerate(migrations[done:], done + 1):
        await ask(run, _TRIGGER.sub(_AS_FUNCTION, sql), timeout=_MIGRATES_WITHIN)
        await ask(run, "INSERT INTO schema_version VALUES ($1)", number)
    if await ask(connection.fetchval, "SELECT 1 FROM pg_roles WHERE rolname = 'grafana_reader'"):
        await ask(run, f"GRANT SELECT ON {', '.join(_VIEWS)} TO grafana_reader")
    await ask(run, "COMMIT")
