"""What the responder writes for itself only its owner can read, whatever the umask; what a service reads, all can."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from responder.cli.evidence import _write as write_fetched
from responder.clients.local import Local
from responder.clients.postgres import DatabaseSettings
from responder.clients.stores import DirectoryStore
from responder.evidence.stores import Directory, Where
from responder.journal import decisions, open_journal
from responder.notify.channel import secret_of
from responder.private_files import make_directory, refuse_public
from responder.signing import ClientSettings
from responder.web_settings import Token


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(root: Path) -> dict[str, str]:
    """The mode of all that is below."""
    return {str(p.relative_to(root)): oct(stat.S_IMODE(p.lstat().st_mode)) for p in sorted(root.rglob("*"))}


def assert_private(root: Path) -> None:
    found = modes(root)
    assert found
    assert {
        name: mode for name, mode in found.items() if mode != ("0o700" if (root / name).is_dir() else "0o600")
    } == {}


async def test_the_journal_and_what_sqlite_keeps_beside_it(umask: int, tmp_path: Path) -> None:
    file = tmp_path / "new" / "deep" / "state.db"
    journal = await open_journal(f"sqlite://{file}")
    await journal.transaction(decisions.hear, "x", datetime.now(UTC))
    assert set(modes(tmp_path / "new/deep")) == {"state.db", "state.db-shm", "state.db-wal", "state.db.lock"}
    assert_private(tmp_path)
    await journal.close()


async def test_a_journal_that_others_could_read_becomes_private(umask: int, tmp_path: Path) -> None:
    for name in ("state.db", "state.db.lock"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    await (await open_journal(f"sqlite://{tmp_path / 'state.db'}")).close()
    assert_private(tmp_path)


async def test_evidence(umask: int, tmp_path: Path) -> None:
    store = Directory(tmp_path / "var" / "evidence")
    where = Where("d", "e")
    await store.begin(where, b"{}")
    await store.put(where, "app.log.gz", b"x")
    assert_private(tmp_path)


async def test_snapshots(umask: int, tmp_path: Path) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        yield b"x"

    (tmp_path / "shelf").mkdir(mode=0o700)
    await DirectoryStore(tmp_path / "shelf").put("shop/2026/data", blocks())
    assert_private(tmp_path)


def test_evidence_that_a_person_fetches(umask: int, tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b")
    write_fetched(tmp_path / "a" / "b" / "app.log", b"x")
    assert_private(tmp_path)


async def test_a_new_file_of_a_service_can_be_read_and_not_written_by_others(umask: int, tmp_path: Path) -> None:
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


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that every user of the host can enter; pytest's own are private."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("file", "directory", "refused"),
    [(0o644, 0o755, True), (0o604, 0o711, True), (0o640, 0o755, False), (0o600, 0o755, False), (0o644, 0o750, False)],
)
def test_a_secret_that_everybody_can_read_is_refused(
    open_directory: Path, file: int, directory: int, refused: bool
) -> None:
    secret = open_directory / "alice.token"
    secret.write_text("sesame-open-yourself")
    secret.chmod(file)
    open_directory.chmod(directory)
    if not refused:
        refuse_public(secret)
        return
    with pytest.raises(ValueError, match=f"{secret} can be read by every user of this host: chmod o= {secret}"):
        refuse_public(secret)


def test_every_secret_file_of_the_configuration_is_looked_at(open_directory: Path) -> None:
    secret = open_directory / "secret"
    secret.write_text("sesame-open-yourself")
    secret.chmod(0o644)
    shown = "can be read by every user"
    with pytest.raises(ValueError, match=shown):
        Token.model_validate({"name": "alice", "scopes": ["read"], "file": secret})
    with pytest.raises(ValueError, match=shown):
        secret_of(None, secret, "url")
    with pytest.raises(ValueError, match=shown):
        ClientSettings.model_validate({"signing_key_file": secret})
    with pytest.raises(ValueError, match=shown):
        DatabaseSettings.model_validate({"name": "shop", "url": "postgresql://owner@db/shop", "password_file": secret})
