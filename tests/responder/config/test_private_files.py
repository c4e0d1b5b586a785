"""Only their owner can read the responder's own files, whatever the umask; files for a service stay readable."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from responder.backends.host.client import Local
from responder.cli.evidence import _write as write_fetched
from responder.config.private_files import make_directory
from responder.evidence.store import EvidenceStore, Where
from responder.journal import decisions, open_journal
from responder.transport.object_store import DirectoryStore, one_block


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(root: Path) -> dict[str, str]:
    """The modes of all files below."""
    return {str(p.relative_to(root)): oct(stat.S_IMODE(p.lstat().st_mode)) for p in sorted(root.rglob("*"))}


def assert_private(root: Path) -> None:
    found = modes(root)
    assert found
    assert {
        name: mode for name, mode in found.items() if mode != ("0o700" if (root / name).is_dir() else "0o600")
    } == {}


async def test_the_journal_and_the_other_files_of_sqlite(umask: int, tmp_path: Path) -> None:
    file = tmp_path / "new" / "deep" / "state.db"
    journal = await open_journal(f"sqlite://{file}")
    await journal.transaction(decisions.record_heartbeat, "x", datetime.now(UTC))
    assert set(modes(tmp_path / "new/deep")) == {"state.db", "state.db-shm", "state.db-wal", "state.db.lock"}
    assert_private(tmp_path)
    await journal.close()


async def test_a_readable_journal_becomes_private(umask: int, tmp_path: Path) -> None:
    for name in ("state.db", "state.db.lock"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    await (await open_journal(f"sqlite://{tmp_path / 'state.db'}")).close()
    assert_private(tmp_path)


async def test_evidence(umask: int, tmp_path: Path) -> None:
    store = EvidenceStore(DirectoryStore(tmp_path / "var" / "evidence"))
    where = Where("d", "e")
    await store.begin(where, b"{}")
    await store.put(where, "app.log.gz", b"x")
    assert_private(tmp_path)


async def test_snapshots(umask: int, tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir(mode=0o700)
    await DirectoryStore(tmp_path / "shelf").put("shop/2026/data", one_block(b"x"))
    assert_private(tmp_path)


def test_fetched_evidence(umask: int, tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b")
    write_fetched(tmp_path / "a" / "b" / "app.log", b"x")
    assert_private(tmp_path)


async def test_a_new_file_of_a_service_is_readable_but_not_writable_by_others(umask: int, tmp_path: Path) -> None:
    local = Local()
    await local.write(tmp_path / "site" / "deep" / "index.html", b"x", parents=True)
    await local.write_text(tmp_path / "note", "x", private=True)
    (tmp_path / "current").touch()
    (tmp_path / "current").chmod(0o640)
    await local.write_text(tmp_path / "current", "x")
    assert modes(tmp_path) == {
        "current": "0o640",
        "note": "0o600",
        "site": oct(0o755 & ~umask),
        "site/deep": oct(0o755 & ~umask),
        "site/deep/index.html": oct(0o644 & ~umask),
    }
