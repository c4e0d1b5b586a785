"""The file of the journal in SQLite: opened, and its schema migrated."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from responder.config.private_files import FILE, open_file
from responder.errors import ConfigError
from responder.journal.database import load_migrations

_CLOCK = "%Y-%m-%dT%H:%M:%f000+00:00"
DIALECT = {
    "now": f"strftime('{_CLOCK}', 'now')",
    "later": f"strftime('{_CLOCK}', 'now', '+' || :lease || ' seconds')",
}


def connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=5.0)
    pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000")
    # KiB. With a long history, `status` reads other pages for each service: more than fit in the default of 2 MB.
    for pragma in (*pragmas, "cache_size=-8192"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def make_private(file: Path) -> None:
    """SQLite creates its other files with the mode of the database. Existing ones may have another mode."""
    os.close(open_file(file, os.O_RDWR))
    for beside in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            file.with_name(file.name + beside).chmod(FILE)


def migrate(file: Path) -> None:
    """Runs the missing migrations. Raises ConfigError if a newer version of the responder wrote the file."""
    connection = connect(file)
    try:
        done = connection.execute("PRAGMA user_version").fetchone()[0]
        migrations = load_migrations()
        refuse_newer(file, done)
        if missing := ";\n".join(migrations[done:]):
            # One transaction: all or none, with one disk sync.
            connection.executescript(f"BEGIN IMMEDIATE;\n{missing};\nPRAGMA user_version = {len(migrations)};\nCOMMIT;")
    finally:
        connection.close()


def refuse_newer(file: Path, done: int) -> None:
    """Raises ConfigError if the file has more migrations than this version of the responder knows."""
    if done > (known := len(load_migrations())):
        raise ConfigError.of("state", f"a newer version of the responder wrote {file} (schema {done}, known {known})")
