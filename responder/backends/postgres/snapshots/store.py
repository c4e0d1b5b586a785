"""One configured place for snapshots: archives go in and come out hashed and, where a key is configured, encrypted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from foundation.durations import Duration
from foundation.secret_files import SecretFile
from responder.backends.connections import missing_package
from responder.backends.postgres.snapshots.encryption import Key, Opening, Sealing
from responder.backends.postgres.snapshots.manifest import NAME, Archive, Manifest, read_manifest
from responder.errors import StepFailed
from responder.transport.aws import Aws
from responder.transport.object_store import DirectoryStore, Missing, Store
from responder.transport.s3_store import S3Store


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path} must be an absolute path")
    return path


class Bucket(BaseModel):
    """A bucket of S3, or of a store that speaks like it; `aws` says how it is reached."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: str = Field(min_length=3, description="Name of the bucket; give it a rule that ends unfinished uploads")
    prefix: str = Field(default="", description="Put before every name in it")


class Encryption(BaseModel):
    """AES-256-GCM with a key of your own, before anything leaves this process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_file: SecretFile = Field(
        description="File with 32 bytes as hex or base64. Without it no snapshot can be read again"
    )
    older_key_files: tuple[SecretFile, ...] = Field(
        default=(), description="Keys of before, with which older ones are read"
    )
    _keys: tuple[Key, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _read(self) -> Self:
        if problem := missing_package(Key):
            raise ValueError(problem)
        self._keys = tuple(Key.read(file) for file in (self.key_file, *self.older_key_files))
        return self

    @property
    def keys(self) -> tuple[Key, ...]:
        return self._keys


class ShelfSettings(BaseModel):
    """A place that snapshots are kept in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?$", description="How services name it")
    directory: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        default=None, description="A directory of this host, or `s3`"
    )
    s3: Bucket | None = Field(default=None, description="A bucket, or `directory`")
    encrypt: Encryption | None = Field(default=None, description="Left out: snapshots are kept as pg_dump wrote them")
    keep: Duration = Field(default=30 * 86400.0, gt=0, description="How long `responder snapshots prune` leaves one")
    keep_at_least: int = Field(default=3, ge=1, description="So many of each database stay, however old they are")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.directory is None) == (self.s3 is None):
            raise ValueError("needs exactly one of directory, s3")
        if self.s3 and (problem := missing_package(Aws)):
            raise ValueError(problem)
        return self

    @property
    def bucket(self) -> Bucket:
        if self.s3 is None:
            raise ValueError(f"{self.name} is a directory")
        return self.s3


class Kept(NamedTuple):
    """What lies under one key: a snapshot, or what is left of one that was never finished."""

    key: str
    manifest: Manifest | None
    wrong: str  # why its manifest is none
    objects: tuple[str, ...]
    newest: float  # seconds since the epoch


class Shelf:
    """Holds no snapshot that is not whole. Several streams at once are fine."""

    def __init__(self, settings: ShelfSettings, store: Store) -> None:
        self.settings, self.store = settings, store
        self._keys = {key.id: key for key in (settings.encrypt.keys if settings.encrypt else ())}

    @classmethod
    def of(cls, settings: ShelfSettings, aws: Aws) -> Self:
        if settings.directory is not None:
            return cls(settings, DirectoryStore(settings.directory))
        return cls(settings, S3Store(aws, settings.bucket.bucket, settings.bucket.prefix))

    def __str__(self) -> str:
        return f"{self.settings.name} ({self.store})"

    @property
    def key(self) -> Key | None:
        """With which new ones are sealed."""
        return next(iter(self._keys.values()), None)

    async def find(self, key: str) -> Manifest | None:
        """The snapshot of that key; None where there is none. Raises Halt where there is something else."""
        name = f"{key}/{NAME}"
        try:
            raw = b"".join([block async for block in self.store.get(name)])
        except Missing:
            return None
        return read_manifest(raw, name, self._keys)

    async def add(self, name: str, section: str, blocks: AsyncIterator[bytes]) -> Archive:
        """Keeps a stream. Raises what the stream raises, and then nothing of it is left."""
        hashed, size = hashlib.sha256(), 0
        sealing = Sealing(self.key, name) if self.key else None

        def put_through(block: bytes) -> bytes:
            sealed = sealing.add(block) if sealing else block
            hashed.update(sealed)
            return sealed

        async def kept() -> AsyncIterator[bytes]:
            nonlocal size
            async for block in blocks:
                sealed = await asyncio.to_thread(put_through, block)
                size += len(sealed)
                yield sealed
            if sealing:
                end = sealing.end()
                hashed.update(end)
                size += len(end)
                yield end

        objects = await self.store.put(name, kept())
        return Archive.model_validate(
            {"name": name, "section": section, "objects": objects, "size": size, "sha256": hashed.hexdigest()}
        )

    async def read(self, manifest: Manifest, archive: Archive) -> AsyncGenerator[bytes]:
        """What was kept. Where it is not what was kept, to the last byte, this raises Halt before it ends."""
        hashed = hashlib.sha256()
        opening = Opening(self._key_of(manifest), archive.name) if manifest.encrypted_with else None

        def put_through(block: bytes) -> bytes:
            hashed.update(block)
            return opening.add(block) if opening else block

        for name in archive.objects:
            async with contextlib.aclosing(self.store.get(name)) as blocks:
                async for block in blocks:
                    if opened := await asyncio.to_thread(put_through, block):
                        yield opened
        if hashed.hexdigest() != archive.sha256:
            raise StepFailed(f"{archive.name} in {self} is not what was written: its SHA-256 is another")
        if opening:
            yield opening.end()

    def _key_of(self, manifest: Manifest) -> Key:
        if manifest.encrypted_with not in self._keys:
            raise StepFailed(
                f"{manifest.key} is encrypted with the key {manifest.encrypted_with}, which the store "
                f"{self.settings.name} does not have: name its file in older_key_files"
            )
        return self._keys[manifest.encrypted_with or ""]

    async def write(self, manifest: Manifest) -> None:
        """The last act: from here on there is a snapshot."""

        async def whole() -> AsyncIterator[bytes]:
            yield manifest.written(self.key)

        await self.store.put(f"{manifest.key}/{NAME}", whole())
        if await self.find(manifest.key) != manifest:
            raise StepFailed(f"the manifest of {manifest.key} in {self} is not read back as it was written")

    async def kept(self) -> list[Kept]:
        """All that lies here, the newest first."""
        by_key: dict[str, list[tuple[str, float]]] = {}
        for stored in await self.store.list(""):
            if len(parts := stored.name.split("/")) > 2:
                by_key.setdefault("/".join(parts[:2]), []).append((stored.name, stored.at.timestamp()))
        found = []
        for key, objects in by_key.items():
            wrong = ""
            try:
                manifest = await self.find(key)
            except StepFailed as e:
                manifest, wrong = None, str(e)
            found.append(Kept(key, manifest, wrong, tuple(name for name, _ in objects), max(at for _, at in objects)))
        return sorted(found, key=lambda kept: kept.newest, reverse=True)
