"""A store of snapshots. It verifies every archive by its hash, and encrypts archives if a key is configured."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from foundation.durations import Duration
from foundation.models import StrictModel, exactly_one
from foundation.secrets import SecretFile
from responder.backends.connections import missing_package
from responder.backends.postgres.snapshots.encryption import Decryptor, Encryptor, Key
from responder.backends.postgres.snapshots.manifest import NAME, Archive, SnapshotManifest, read_manifest
from responder.errors import StepFailed
from responder.transport.aws import Aws
from responder.transport.object_store import DirectoryStore, MissingObject, ObjectStore, one_block, read_object
from responder.transport.s3_store import S3Store


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path} is not an absolute path")
    return path


class BucketSettings(StrictModel):
    """A bucket of S3 or of a compatible store. `aws` configures the access."""

    bucket: str = Field(min_length=3, description="Bucket; add a lifecycle rule that aborts incomplete uploads")
    prefix: str = Field(default="", description="Prefix of object names")


class Encryption(StrictModel):
    """Encrypts archives with AES-256-GCM before they leave the process."""

    key_file: SecretFile = Field(
        description="File with 32 bytes as hex or base64. Without it, snapshots are unreadable"
    )
    older_key_files: tuple[SecretFile, ...] = Field(default=(), description="Earlier keys, for older snapshots")
    _keys: tuple[Key, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _read(self) -> Self:
        if problem := missing_package(Key):
            raise ValueError(problem)
        self._keys = tuple(Key.read(file) for file in (self.key_file, *self.older_key_files))
        return self

    @property
    def keys(self) -> tuple[Key, ...]:
        """The current key, then the older ones."""
        return self._keys


class SnapshotStoreSettings(StrictModel):
    """A store of snapshots: a directory or a bucket."""

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?$", description="Name that services refer to")
    directory: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        default=None, description="Directory on this host; set this or `s3`"
    )
    s3: BucketSettings | None = Field(default=None, description="Bucket; set this or `directory`")
    encrypt: Encryption | None = Field(default=None, description="Encryption of archives")
    keep: Duration = Field(default=30 * 86400.0, gt=0, description="Minimum age for `responder snapshots prune`")
    keep_at_least: int = Field(default=3, ge=1, description="Newest snapshots of each database that are never removed")

    @model_validator(mode="after")
    def _has_one_location(self) -> Self:
        exactly_one(self, "directory", "s3")
        if self.s3 and (problem := missing_package(Aws)):
            raise ValueError(problem)
        return self

    @property
    def bucket(self) -> BucketSettings:
        """The bucket. Raises ValueError if the store is a directory."""
        if self.s3 is None:
            raise ValueError(f"store {self.name} is a directory, not a bucket")
        return self.s3


class StoredSnapshot(NamedTuple):
    """The objects under one key: a snapshot, or the remains of an incomplete one."""

    key: str
    manifest: SnapshotManifest | None
    problem: str  # why its manifest cannot be read; empty if it can or is absent
    objects: tuple[str, ...]
    newest: float  # seconds since the epoch


class Added(NamedTuple):
    """A new archive. `confirmed`: the checksum that the store computed is that of the archive."""

    archive: Archive
    confirmed: bool


class SnapshotStore:
    """Stores complete snapshots only. Several streams may run concurrently."""

    def __init__(self, settings: SnapshotStoreSettings, objects: ObjectStore) -> None:
        self.settings, self.objects = settings, objects
        self._keys = {key.id: key for key in (settings.encrypt.keys if settings.encrypt else ())}

    @classmethod
    def open(cls, settings: SnapshotStoreSettings, aws: Aws) -> Self:
        """The store with these settings."""
        if settings.directory is not None:
            return cls(settings, DirectoryStore(settings.directory))
        return cls(settings, S3Store(aws, settings.bucket.bucket, settings.bucket.prefix))

    def __str__(self) -> str:
        return f"{self.settings.name} ({self.objects})"

    @property
    def key(self) -> Key | None:
        """The key that encrypts new archives; None without encryption."""
        return next(iter(self._keys.values()), None)

    async def find(self, key: str) -> SnapshotManifest | None:
        """The manifest of that key; None if there is none. Raises StepFailed for an invalid manifest."""
        name = f"{key}/{NAME}"
        try:
            raw = await read_object(self.objects, name)
        except MissingObject:
            return None
        return read_manifest(raw, name, self._keys)

    async def add(self, name: str, section: str, blocks: AsyncIterator[bytes]) -> Added:
        """Stores a stream as an archive. If the stream raises, the error reaches the caller and nothing is stored.

        What it encrypts it decrypts again, so an archive is readable if the store holds what it was given.
        """
        hashed, size = hashlib.sha256(), 0
        encryptor = Encryptor(self.key, name) if self.key else None
        decryptor = Decryptor(self.key, name) if self.key else None

        def kept(block: bytes) -> bytes:
            nonlocal size
            hashed.update(block)
            size += len(block)
            if decryptor:
                decryptor.add(block)
            return block

        def encrypt(block: bytes) -> bytes:
            return kept(encryptor.add(block) if encryptor else block)

        async def encrypted() -> AsyncIterator[bytes]:
            async for block in blocks:
                yield await asyncio.to_thread(encrypt, block)
            if encryptor and decryptor:
                yield kept(encryptor.end())
                decryptor.end()

        objects, confirmed = await self.objects.put(name, encrypted())
        archive = Archive.model_validate(
            {"name": name, "section": section, "objects": objects, "size": size, "sha256": hashed.hexdigest()}
        )
        return Added(archive, confirmed)

    async def read(self, manifest: SnapshotManifest, archive: Archive) -> AsyncGenerator[bytes]:
        """The content of an archive. Raises StepFailed before its end if the archive was modified."""
        hashed = hashlib.sha256()
        decryptor = Decryptor(self._key_of(manifest), archive.name) if manifest.encrypted_with else None

        def decrypt(block: bytes) -> bytes:
            hashed.update(block)
            return decryptor.add(block) if decryptor else block

        for name in archive.objects:
            async with contextlib.aclosing(self.objects.get(name)) as blocks:
                async for block in blocks:
                    if text := await asyncio.to_thread(decrypt, block):
                        yield text
        if hashed.hexdigest() != archive.sha256:
            raise StepFailed(f"{archive.name} in {self} was modified: its SHA-256 does not match the manifest")
        if decryptor:
            yield decryptor.end()

    def _key_of(self, manifest: SnapshotManifest) -> Key:
        if manifest.encrypted_with not in self._keys:
            raise StepFailed(
                f"{manifest.key} is encrypted with key {manifest.encrypted_with}, which is not a key of store "
                f"{self.settings.name}: add its file to older_key_files"
            )
        return self._keys[manifest.encrypted_with or ""]

    async def write(self, manifest: SnapshotManifest) -> None:
        """Writes the manifest, which makes the snapshot complete."""
        await self.objects.put(f"{manifest.key}/{NAME}", one_block(manifest.encoded(self.key)))
        if await self.find(manifest.key) != manifest:
            raise StepFailed(f"the manifest of {manifest.key} in {self} differs after it was written: check the store")

    async def stored(self) -> list[StoredSnapshot]:
        """All snapshots and remains of incomplete ones, newest first."""
        by_key: dict[str, list[tuple[str, float]]] = {}
        for stored in await self.objects.list(""):
            if len(parts := stored.name.split("/")) > 2:
                by_key.setdefault("/".join(parts[:2]), []).append((stored.name, stored.at.timestamp()))
        found = []
        for key, objects in by_key.items():
            problem = ""
            try:
                manifest = await self.find(key)
            except StepFailed as e:
                manifest, problem = None, str(e)
            names, newest = tuple(name for name, _ in objects), max(at for _, at in objects)
            found.append(StoredSnapshot(key, manifest, problem, names, newest))
        return sorted(found, key=lambda snapshot: snapshot.newest, reverse=True)
