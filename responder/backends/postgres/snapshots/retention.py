"""Decides which snapshots to remove."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from foundation.durations import format_duration
from responder.backends.postgres.snapshots.manifest import NAME
from responder.backends.postgres.snapshots.store import StoredSnapshot

UNFINISHED_FOR = 86400.0
"""Seconds after which an incomplete snapshot is abandoned: no execution resumes that late."""


class Removable(NamedTuple):
    """A snapshot to remove, or with `objects` only these objects of it."""

    key: str
    reason: str
    objects: tuple[str, ...] = ()


def removable(
    stored: Sequence[StoredSnapshot], *, keep: float, keep_at_least: int, now: datetime, needed: Collection[str]
) -> list[Removable]:
    """The snapshots to remove: older than `keep` seconds, or abandoned.

    It spares the newest `keep_at_least` of each database, at least one. It spares snapshots with an unreadable
    manifest, and those of executions in `needed`.
    """
    found: list[Removable] = []
    snapshots = sorted(
        (snapshot for snapshot in stored if snapshot.manifest), key=lambda snapshot: _made(snapshot), reverse=True
    )
    newer: dict[str, int] = {}
    for snapshot in snapshots:
        database = snapshot.manifest.database if snapshot.manifest else ""
        newer[database] = newer.get(database, 0) + 1
        age = (now - _made(snapshot)).total_seconds()
        if age > keep and newer[database] > max(keep_at_least, 1):
            found.append(Removable(snapshot.key, f"older than {format_duration(keep)}"))
        elif stray := _stray_objects(snapshot, now):
            found.append(Removable(snapshot.key, "left by an earlier attempt", stray))
    found = [snapshot for snapshot in found if _execution(snapshot.key) not in needed]
    abandoned = (
        snapshot
        for snapshot in stored
        if _execution(snapshot.key) not in needed
        and snapshot.manifest is None
        and not snapshot.problem
        and now.timestamp() - snapshot.newest > UNFINISHED_FOR
    )
    reason = f"incomplete for {format_duration(UNFINISHED_FOR)}"
    return [*found, *(Removable(snapshot.key, reason) for snapshot in abandoned)]


def _execution(key: str) -> str:
    return key.rpartition("/")[2]


def _made(snapshot: StoredSnapshot) -> datetime:
    return snapshot.manifest.made_at if snapshot.manifest else datetime.min


def _stray_objects(snapshot: StoredSnapshot, now: datetime) -> tuple[str, ...]:
    """Objects that an abandoned attempt wrote late, beside those of the complete snapshot."""
    if snapshot.manifest is None or now.timestamp() - snapshot.newest < UNFINISHED_FOR:
        return ()
    expected = {name for archive in snapshot.manifest.archives for name in archive.objects} | {f"{snapshot.key}/{NAME}"}
    return tuple(name for name in snapshot.objects if name not in expected)
