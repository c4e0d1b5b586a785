"""The manifest of a snapshot. It is written last: a snapshot exists if and only if its manifest does."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from foundation.models import StrictModel
from responder.backends.postgres.snapshots.encryption import Key
from responder.errors import StepFailed

NAME = "manifest.json"


class Archive(StrictModel):
    """One archive of pg_dump, in one object or, if it is very large, in several."""

    name: str
    section: Literal["schema", "data"]
    objects: tuple[str, ...]
    size: int
    sha256: str


class TableChecksum(StrictModel):
    """The number of rows of a table, and the sum of their hashes, which does not depend on their order."""

    table: str
    rows: int
    hash: str
    sampled_one_in: int = 1  # 1: every row is hashed; n: a sample of one in n, chosen by key

    def __str__(self) -> str:
        return f"{self.rows} rows, hash {self.hash}"


class SnapshotManifest(StrictModel):
    """A complete snapshot of one database. Every archive was read before the manifest was written."""

    format: Literal[1] = 1
    key: str
    database: str
    made_at: datetime  # time of the snapshot on the server's clock
    took_seconds: float
    server: str
    pg_dump: str
    encoding: str
    collate: str
    ctype: str
    tables: tuple[str, ...] | None  # tables with data; None: all
    materialized_views: tuple[str, ...]  # to be refreshed
    archives: tuple[Archive, ...]
    checksums: tuple[TableChecksum, ...] = ()
    encrypted_with: str | None = None
    verified: Literal["read", "restore"]
    verified_at: datetime

    @property
    def size(self) -> int:
        """Bytes of all archives."""
        return sum(archive.size for archive in self.archives)

    def encoded(self, key: Key | None) -> bytes:
        """The manifest as JSON, with a signature line if there is a key."""
        text = self.model_dump_json(indent=1).encode()
        return text + (f"\n{key.sign(text)}\n" if key else "\n").encode()


def read_manifest(raw: bytes, name: str, keys: dict[str, Key]) -> SnapshotManifest:
    """Reads a manifest. Raises StepFailed if it is invalid or its signature does not match."""
    try:
        end = raw.rindex(b"}") + 1
        manifest = SnapshotManifest.model_validate_json(raw[:end])
    except (ValueError, ValidationError) as e:
        raise StepFailed(f"{name} is not a valid manifest: {str(e).splitlines()[0]}") from None
    if f"{manifest.key}/{NAME}" != name:
        raise StepFailed(f"{name} is the manifest of another snapshot, {manifest.key}")
    key = keys.get(manifest.encrypted_with or "")
    if key and raw[end:].strip().decode(errors="replace") != key.sign(raw[:end]):
        raise StepFailed(f"{name} was modified: its signature does not match")
    return manifest
