"""Which snapshots have had their time. Pure: it is told what is there, and by which rule it is kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from foundation.durations import format_duration
from responder.backends.postgres.snapshots.manifest import NAME
from responder.backends.postgres.snapshots.store import Kept

UNFINISHED_FOR = 86400.0
"""Seconds after which nobody goes on with what was begun and not finished: no execution is resumed that late."""


class Due(NamedTuple):
    """What can go, and why. Without `objects` all that lies under the key."""

    key: str
    why: str
    objects: tuple[str, ...] = ()


def due(kept: Sequence[Kept], *, keep: float, keep_at_least: int, now: datetime, needed: Collection[str]) -> list[Due]:
    """What is due for removal: never the newest of each database, never anything whose manifest cannot be read, and
    never anything of an execution in `needed`, the IDs of all that are open.
    """
    found: list[Due] = []
    snapshots = sorted(
        (snapshot for snapshot in kept if snapshot.manifest), key=lambda snapshot: _made(snapshot), reverse=True
    )
    seen: dict[str, int] = {}
    for snapshot in snapshots:
        database = snapshot.manifest.database if snapshot.manifest else ""
        seen[database] = seen.get(database, 0) + 1
        age = (now - _made(snapshot)).total_seconds()
        if age > keep and seen[database] > max(keep_at_least, 1):
            found.append(Due(snapshot.key, f"older than {format_duration(keep)}"))
        elif stray := _stray(snapshot, now):
            found.append(Due(snapshot.key, "left by an earlier try", stray))
    found = [snapshot for snapshot in found if _execution(snapshot.key) not in needed]
    left = (
        k
        for k in kept
        if _execution(k.key) not in needed
        and k.manifest is None
        and not k.wrong
        and now.timestamp() - k.newest > UNFINISHED_FOR
    )
    return [*found, *(Due(snapshot.key, f"not finished for {format_duration(UNFINISHED_FOR)}") for snapshot in left)]


def _execution(key: str) -> str:
    return key.rpartition("/")[2]


def _made(snapshot: Kept) -> datetime:
    return snapshot.manifest.made_at if snapshot.manifest else datetime.min


def _stray(snapshot: Kept, now: datetime) -> tuple[str, ...]:
    """What a try that was given up wrote late, beside the snapshot that counts."""
    if snapshot.manifest is None or now.timestamp() - snapshot.newest < UNFINISHED_FOR:
        return ()
    ours = {name for archive in snapshot.manifest.archives for name in archive.objects} | {f"{snapshot.key}/{NAME}"}
    return tuple(name for name in snapshot.objects if name not in ours)
