"""Moves what is older than `journal.retention` to the archive, in small batches: exported, read back, then deleted.

A crash between the two exports a batch again under the same name, or its records in another one: no record is lost.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from responder.backends.connections import Connections
from responder.errors import StepFailed, Unavailable
from responder.journal import Database, archive
from responder.journal.settings import JournalSettings
from responder.logging import say
from responder.transport.aws import Aws
from responder.transport.object_store import DirectoryStore, ObjectStore, one_block, read_object
from responder.transport.s3_store import S3Store

log = logging.getLogger("responder.retention")

ROLLBACKS_AT_ONCE, DECISIONS_AT_ONCE = 50, 200
"""So few that no transaction of them delays a rollback."""

_EVERY, _BETWEEN, _AFTER_FAILURE = 3600.0, 1.0, 300.0

Kind = Literal["rollbacks", "decisions"]
OnArchived = Callable[[Kind, int], None]


async def archive_store(settings: JournalSettings, connections: Connections) -> ObjectStore:
    """The store of the archive."""
    if settings.bucket:
        return S3Store(await connections.to(Aws), *settings.bucket)
    return DirectoryStore(Path(settings.archive or ""))


class Retention:
    """The archive of one configuration."""

    def __init__(
        self,
        settings: JournalSettings,
        journal: Database,
        connections: Connections,
        on_archived: OnArchived = lambda kind, n: None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._journal, self._connections = settings, journal, connections
        self._on_archived, self._on_failure = on_archived, on_failure

    async def turn(self, guard: Callable[[], None]) -> float:
        """Archives one batch of each kind. Returns the seconds until the next turn.

        If the archive cannot be written, nothing is deleted. `guard` raises LeaseLost.
        """
        if self._settings.retention is None:
            return _EVERY
        before = self._journal.now() - timedelta(seconds=self._settings.retention)
        try:
            store = await archive_store(self._settings, self._connections)
            more = [await self._rollbacks(store, before, guard), await self._decisions(store, before, guard)]
        except (StepFailed, Unavailable) as e:
            self._on_failure()
            say(log, "archive not written, nothing deleted", level=logging.WARNING, reason=str(e))
            return _AFTER_FAILURE
        return _BETWEEN if any(more) else _EVERY

    async def _rollbacks(self, store: ObjectStore, before: datetime, guard: Callable[[], None]) -> bool:
        records = await self._journal.read(archive.rollbacks, before, ROLLBACKS_AT_ONCE)
        if not records:
            return False
        ids = [record["execution"]["id"] for record in records]
        name = await _export(store, "rollbacks", ids[0], records)
        guard()
        deleted = await self._journal.transaction(archive.delete_rollbacks, ids, store.url(name))
        self._archived("rollbacks", deleted, store.url(name))
        return len(records) == ROLLBACKS_AT_ONCE

    async def _decisions(self, store: ObjectStore, before: datetime, guard: Callable[[], None]) -> bool:
        records = await self._journal.read(archive.decisions, before, DECISIONS_AT_ONCE)
        if not records:
            return False
        name = await _export(store, "decisions", str(records[0]["id"]), records)
        guard()
        deleted = await self._journal.transaction(archive.delete_decisions, records, before)
        self._archived("decisions", deleted, store.url(name))
        return len(records) == DECISIONS_AT_ONCE

    def _archived(self, kind: Kind, n: int, location: str) -> None:
        self._on_archived(kind, n)
        say(log, "archived", kind=kind, n=n, location=location)


async def _export(store: ObjectStore, kind: Kind, first: str, records: Sequence[Any]) -> str:
    """Writes JSON Lines, and reads them back. Returns the name. The same records always get the same name."""
    lines = [json.dumps(record, default=_json, ensure_ascii=False, sort_keys=True) for record in records]
    content = "".join(f"{line}\n" for line in lines).encode()
    name = f"{kind}/{first[:6]}/{first}-{hashlib.sha256(content).hexdigest()[:16]}.jsonl.gz"
    await store.put(name, one_block(gzip.compress(content, mtime=0)))
    try:
        same = gzip.decompress(await read_object(store, name)) == content
    except (OSError, EOFError) as e:
        raise StepFailed(f"{store.url(name)} cannot be read back: {e}") from e
    if not same:
        raise StepFailed(f"{store.url(name)} does not have the content that was written")
    return name


def _json(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
