"""The store of evidence: one folder per execution, in a directory or in a bucket. The manifest is written last."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from typing import NamedTuple

from responder.backends.connections import Connections
from responder.config.private_files import is_plain
from responder.errors import StepFailed
from responder.evidence.manifest import BEGUN, FORMAT, MANIFEST, Where
from responder.evidence.settings import EvidenceSettings
from responder.transport.aws import Aws
from responder.transport.object_store import DirectoryStore, MissingObject, ObjectStore, one_block, read_object
from responder.transport.s3_store import S3Store

_MARKERS = (MANIFEST, BEGUN)


class StoredFile(NamedTuple):
    """The stored evidence of one execution, complete or not."""

    where: Where
    at: datetime
    complete: bool


class EvidenceStore:
    """Folders `{deployment}/{execution}/` in an object store. Raises `Unavailable` and `StepFailed`."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def location(self, where: Where) -> str:
        """The URL, for people."""
        return self._objects.url(_folder(where))

    async def begin(self, where: Where, begun: bytes) -> None:
        """Deletes what an attempt before a crash left, and marks the folder as evidence."""
        await self.remove(where)
        await self.put(where, BEGUN, begun)

    async def put(self, where: Where, name: str, data: bytes) -> None:
        """Writes a file atomically."""
        await self._objects.put(_file(where, name), one_block(data))

    async def finish(self, where: Where, manifest: bytes) -> None:
        """Writes the manifest, which makes the evidence complete."""
        await self.put(where, MANIFEST, manifest)
        await self._objects.delete((_file(where, BEGUN),))

    async def get(self, where: Where, name: str) -> bytes | None:
        """The content; None if the file does not exist."""
        try:
            return await read_object(self._objects, _file(where, name))
        except MissingObject:
            return None

    async def stored(self) -> list[StoredFile]:
        """Every folder that looks like evidence. `is_evidence` confirms it."""
        found: dict[Where, StoredFile] = {}
        for item in await self._objects.list(""):
            parts = item.name.split("/")
            if len(parts) != 3 or parts[2] not in _MARKERS or not all(map(is_plain, parts)):
                continue
            where, complete = Where(parts[0], parts[1]), parts[2] == MANIFEST
            if where not in found or complete:
                found[where] = StoredFile(where, item.at, complete)
        return list(found.values())

    async def remove(self, where: Where) -> None:
        """Deletes a folder. Deletes nothing if it has subfolders, which are not evidence."""
        folder = _folder(where)
        names = [item.name for item in await self._objects.list(folder, unfinished=True)]
        if foreign := [name for name in names if "/" in name.removeprefix(folder)]:
            raise StepFailed(f"{self._objects.url(foreign[0])} is not evidence: move it out of the evidence store")
        # The markers last: a partly deleted folder is still known as evidence.
        markers = [name for name in names if name.removeprefix(folder) in _MARKERS]
        await self._objects.delete(tuple(name for name in names if name not in markers))
        await self._objects.delete(tuple(markers))


async def store_of(settings: EvidenceSettings, connections: Connections) -> EvidenceStore:
    """The store with these settings."""
    if settings.base_directory is not None:
        return EvidenceStore(DirectoryStore(settings.base_directory))
    return EvidenceStore(S3Store(await connections.to(Aws), *settings.bucket))


async def is_evidence(store: EvidenceStore, stored: StoredFile) -> bool:
    """Whether the folder has the marker file. Foreign files must never be deleted."""
    return FORMAT.encode() in (await store.get(stored.where, MANIFEST if stored.complete else BEGUN) or b"")[:200]


async def try_out(store: EvidenceStore) -> None:
    """Raises if the store is not writable. Deletes what it writes."""
    where = Where("responder-check", f"{os.getpid()}-{asyncio.get_running_loop().time():.6f}".replace(".", "-"))
    await store.begin(where, f'{{"format": "{FORMAT}"}}'.encode())
    await store.remove(where)


def _folder(where: Where) -> str:
    return f"{_checked(where.deployment)}/{_checked(where.id)}/"


def _file(where: Where, name: str) -> str:
    return _folder(where) + _checked(name)


def _checked(name: str) -> str:
    if not is_plain(name):
        raise StepFailed(f"{name!r} is not a plain file name")
    return name
