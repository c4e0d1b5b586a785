"""What a snapshot is made of: written last, so that there is a snapshot exactly where there is a manifest."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from responder.backends.postgres.snapshots.encryption import Key
from responder.errors import StepFailed

NAME = "manifest.json"


class Archive(BaseModel):
    """One file of pg_dump, in one object or, where it is very large, in several."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    section: Literal["schema", "data"]
    objects: tuple[str, ...]
    size: int
    sha256: str


class Counted(BaseModel):
    """The rows of one table, with a sum of their hashes that does not depend on their order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    rows: int
    hash: str
    one_in: int = 1  # only so many rows were hashed, chosen by their key

    def __str__(self) -> str:
        return f"{self.rows} rows, hash {self.hash}"


class Manifest(BaseModel):
    """A complete snapshot of one database, read back to its last byte before this was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    key: str
    database: str
    made_at: datetime  # when the snapshot was taken, by the server's clock
    took_seconds: float
    server: str
    pg_dump: str
    encoding: str
    collate: str
    ctype: str
    tables: tuple[str, ...] | None  # with data; None: all
    materialized_views: tuple[str, ...]  # to be refreshed
    archives: tuple[Archive, ...]
    counted: tuple[Counted, ...] = ()
    encrypted_with: str | None = None
    verified: Literal["read", "restore"]
    verified_at: datetime

    @property
    def size(self) -> int:
        return sum(archive.size for archive in self.archives)

    def written(self, key: Key | None) -> bytes:
        """As it is kept: the text, and a line that only a holder of the key can write."""
        text = self.model_dump_json(indent=1).encode()
        return text + (f"\n{key.seal_of(text)}\n" if key else "\n").encode()


def read_manifest(raw: bytes, name: str, keys: dict[str, Key]) -> Manifest:
    """Raises Halt where it is not one, or was changed by somebody who does not have the key."""
    try:
        end = raw.rindex(b"}") + 1
        manifest = Manifest.model_validate_json(raw[:end])
    except (ValueError, ValidationError) as e:
        raise StepFailed(f"{name} is not a manifest of a snapshot: {str(e).splitlines()[0]}") from None
    if f"{manifest.key}/{NAME}" != name:
        raise StepFailed(f"{name} is the manifest of {manifest.key}")
    key = keys.get(manifest.encrypted_with or "")
    if key and raw[end:].strip().decode(errors="replace") != key.seal_of(raw[:end]):
        raise StepFailed(f"{name} was changed after it was written")
    return manifest
