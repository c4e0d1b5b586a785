"""Snapshots that are due for removal, and those that never are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from responder.backends.postgres.snapshots.manifest import Archive, SnapshotManifest
from responder.backends.postgres.snapshots.retention import removable
from responder.backends.postgres.snapshots.store import StoredSnapshot

NOW = datetime(2026, 11, 26, tzinfo=UTC)
DAY = 86400.0


def kept(key: str, days: float, *, stray: bool = False) -> StoredSnapshot:
    at = NOW - timedelta(days=days)
    archive = Archive(
        name=f"{key}/t/schema.dump", section="schema", objects=(f"{key}/t/schema.dump",), size=1, sha256=""
    )
    manifest = SnapshotManifest(
        key=key,
        database=key.split("/")[0],
        made_at=at,
        took_seconds=1.0,
        server="15",
        pg_dump="15",
        encoding="UTF8",
        collate="C",
        ctype="C",
        tables=None,
        materialized_views=(),
        archives=(archive,),
        verified="read",
        verified_at=at,
    )
    objects = (archive.name, f"{key}/manifest.json", *((f"{key}/u/schema.dump",) if stray else ()))
    return StoredSnapshot(key, manifest, "", objects, at.timestamp())


def unfinished(key: str, days: float, wrong: str = "") -> StoredSnapshot:
    return StoredSnapshot(key, None, wrong, (f"{key}/t/schema.dump",), (NOW - timedelta(days=days)).timestamp())


@pytest.mark.parametrize(
    ("there", "gone"),
    [
        ([], []),
        ([kept("shop/a", 400)], []),
        ([kept("shop/a", 31), kept("shop/b", 29)], ["shop/a"]),
        ([kept("shop/a", 31), kept("shop/b", 400), kept("shop/c", 500)], ["shop/b", "shop/c"]),
        ([kept("shop/a", 31), kept("crm/b", 400)], []),
        ([unfinished("shop/a", 2), unfinished("shop/b", 0.5)], ["shop/a"]),
        ([unfinished("shop/a", 400, "cannot be read")], []),
    ],
    ids=["nothing", "the only one", "an old one", "only the newest stays", "of each database", "unfinished", "unread"],
)
def test_old_snapshots_are_due(there: list[StoredSnapshot], gone: list[str]) -> None:
    assert [removal.key for removal in removable(there, keep=30 * DAY, keep_at_least=1, now=NOW, needed=())] == gone


@pytest.mark.parametrize("needed", [kept("shop/a", 400), kept("shop/a", 5, stray=True), unfinished("shop/a", 400)])
def test_snapshots_of_open_executions_are_never_due(needed: StoredSnapshot) -> None:
    there = [kept("shop/b", 0), needed]
    options = {"keep": 30 * DAY, "keep_at_least": 1, "now": NOW}
    assert [gone.key for gone in removable(there, needed={"x"}, **options)] == ["shop/a"]
    assert removable(there, needed={"a"}, **options) == []


def test_the_newest_snapshots_stay_regardless_of_age() -> None:
    there = [kept(f"shop/{n}", 100 + n) for n in range(5)]
    assert [removal.key for removal in removable(there, keep=DAY, keep_at_least=3, now=NOW, needed=())] == [
        "shop/3",
        "shop/4",
    ]


def test_only_leftovers_of_earlier_attempts_are_removed() -> None:
    (removal,) = removable([kept("shop/a", 2, stray=True)], keep=30 * DAY, keep_at_least=1, now=NOW, needed=())
    assert removal.objects == ("shop/a/u/schema.dump",)
    assert removable([kept("shop/a", 0.1, stray=True)], keep=30 * DAY, keep_at_least=1, now=NOW, needed=()) == []
