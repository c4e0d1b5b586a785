"""A backup of an open journal, made as in docs/operations.md, is complete."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from responder.journal import deployments, open_journal
from responder.journal.deployments import Deployment
from responder.services import registry
from tests.parts import need, program

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
ONE = Deployment(
    id="d1", service="backend", environment="production", version="1.0", at=datetime.now(UTC), recorded_by="x"
)


async def known(state: str) -> list[str]:
    journal = await open_journal(state)
    try:
        return [deployment.version for deployment in await journal.read(deployments.running)]
    finally:
        await journal.close()


async def test_sqlite(tmp_path: Path) -> None:
    assert '".backup ' in OPERATIONS
    journal = await open_journal(f"sqlite://{tmp_path}/state.db")
    await journal.transaction(registry.record, ONE, "good")
    # As `.backup` of sqlite3.
    source, target = sqlite3.connect(tmp_path / "state.db"), sqlite3.connect(tmp_path / "backup.db")
    source.backup(target)
    source.close()
    target.close()
    await journal.close()
    assert await known(f"sqlite://{tmp_path}/backup.db") == ["1.0"]


async def test_postgres(postgres_server: Any, tmp_path: Path) -> None:
    need("pg_dump", "pg_restore")
    state = await postgres_server.database("backed-up")
    journal = await open_journal(state)
    await journal.transaction(registry.record, ONE, "good")
    commands = dict(re.findall(r"`(pg_dump|pg_restore) ([^`]*)`", OPERATIONS))
    dump = commands["pg_dump"].replace("responder > responder.dump", f"--file={tmp_path}/dump {state}")
    run("pg_dump", dump)
    await journal.close()
    other = await postgres_server.database("restored")
    run(
        "pg_restore",
        commands["pg_restore"].replace("--dbname=responder responder.dump", f"--dbname={other} {tmp_path}/dump"),
    )
    assert await known(other) == ["1.0"]
    run(
        "pg_restore",
        commands["pg_restore"].replace("--dbname=responder responder.dump", f"--dbname={other} {tmp_path}/dump"),
    )
    assert await known(other) == ["1.0"], "over one that is there"


def run(name: str, words: str) -> None:
    done = subprocess.run([str(program(name)), *words.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
