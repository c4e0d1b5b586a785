"""Evidence stores: a directory or an S3 bucket, with the same names in both. The manifest is written last."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from responder.backends.connections import Connections
from responder.backends.host.logs_client import in_daemon
from responder.config.private_files import make_directory, open_file
from responder.errors import StepFailed, Unavailable
from responder.evidence.manifest import BEGUN, FORMAT, MANIFEST, Where, is_plain
from responder.evidence.settings import EvidenceSettings
from responder.transport.acting import acting
from responder.transport.aws import Aws, AwsRefused

T = TypeVar("T")
_GONE = ("NoSuchKey", "404", "NotFound")


class StoredFile(NamedTuple):
    """The stored evidence of one execution, complete or not."""

    where: Where
    at: datetime
    complete: bool


class EvidenceStore(Protocol):
    """Every method raises `Unavailable` and `StepFailed`."""

    def location(self, where: Where) -> str:
        """The URL, for people."""

    async def begin(self, where: Where, begun: bytes) -> None:
        """Deletes what an attempt before a crash left, and marks the folder as evidence."""

    async def put(self, where: Where, name: str, data: bytes) -> None:
        """Writes a file atomically."""

    async def finish(self, where: Where, manifest: bytes) -> None:
        """Writes the manifest, which makes the evidence complete."""

    async def get(self, where: Where, name: str) -> bytes | None:
        """The content; None if there is no such file."""

    async def stored(self) -> list[StoredFile]:
        """Every folder that looks like evidence. `is_evidence` confirms it."""

    async def remove(self, where: Where) -> None: ...


def store_of(settings: EvidenceSettings, connections: Connections) -> EvidenceStore:
    if settings.base_directory is not None:
        return Directory(settings.base_directory)
    return EvidenceBucket(*settings.bucket, connections)


class Directory:
    """Files that only the responder can read. Every access runs in a thread: the directory may be on a network."""

    def __init__(self, base: Path) -> None:
        self._base = base

    def location(self, where: Where) -> str:
        return self._home(where).as_uri()

    async def begin(self, where: Where, begun: bytes) -> None:
        def work() -> None:
            home = self._home(where)
            make_directory(home)
            for left in home.iterdir():
                left.unlink()
            _write(home / BEGUN, begun)

        await self._try(work)

    async def put(self, where: Where, name: str, data: bytes) -> None:
        await self._try(_write, self._file(where, name), data)

    async def finish(self, where: Where, manifest: bytes) -> None:
        def work() -> None:
            home = self._home(where)
            _write(home / MANIFEST, manifest)
            for directory in (home, home.parent, self._base):
                _sync(directory)
            (home / BEGUN).unlink(missing_ok=True)

        await self._try(work)

    async def get(self, where: Where, name: str) -> bytes | None:
        file = self._file(where, name)

        def work() -> bytes | None:
            try:
                return file.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

        return await self._try(work)

    async def stored(self) -> list[StoredFile]:
        def work() -> list[StoredFile]:
            return list(_found_in(self._base)) if self._base.is_dir() else []

        return await self._try(work)

    async def remove(self, where: Where) -> None:
        def work() -> None:
            home = self._home(where)
            # The manifest last: a partly deleted folder is still known as evidence.
            for file in sorted(home.iterdir(), key=lambda path: path.name in (MANIFEST, BEGUN)):
                file.unlink()
            home.rmdir()
            with contextlib.suppress(OSError):  # other evidence of this deployment
                home.parent.rmdir()

        await self._try(work)

    def _home(self, where: Where) -> Path:
        return self._base / _checked(where.deployment) / _checked(where.id)

    def _file(self, where: Where, name: str) -> Path:
        return self._home(where) / _checked(name)

    async def _try(self, work: Callable[..., T], *args: Any) -> T:
        try:
            return await in_daemon(work, *args)
        except OSError as e:
            raise StepFailed(f"{e.filename or self._base}: {e.strerror}") from e


def _checked(name: str) -> str:
    if not is_plain(name):
        raise StepFailed(f"{name!r} is not a plain file name")
    return name


def _write(file: Path, data: bytes) -> None:
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    with os.fdopen(open_file(new, os.O_WRONLY | os.O_TRUNC), "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    new.replace(file)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _found_in(base: Path) -> Iterator[StoredFile]:
    for deployment in base.iterdir():
        if not is_plain(deployment.name) or deployment.is_symlink() or not deployment.is_dir():
            continue
        for home in deployment.iterdir():
            if not is_plain(home.name) or home.is_symlink() or not home.is_dir():
                continue
            for name in (MANIFEST, BEGUN):
                if (home / name).is_file():
                    at = datetime.fromtimestamp((home / name).stat().st_mtime, UTC)
                    yield StoredFile(Where(deployment.name, home.name), at, name == MANIFEST)
                    break


class EvidenceBucket:
    """Objects under `prefix/{deployment_id}/{execution}/`. Large ones are uploaded in parts."""

    def __init__(self, bucket: str, prefix: str, connections: Connections) -> None:
        self._bucket, self._prefix, self._connections = bucket, prefix, connections

    def location(self, where: Where) -> str:
        return f"s3://{self._bucket}/{self._key(where, '')}"

    async def begin(self, where: Where, begun: bytes) -> None:
        await self.remove(where)
        await self.put(where, BEGUN, begun)

    async def put(self, where: Where, name: str, data: bytes) -> None:
        key = self._key(where, _checked(name))
        aws = await self._connections.to(Aws)

        acting.get()()

        def upload() -> None:
            aws.client("s3").upload_fileobj(io.BytesIO(data), self._bucket, key)

        await self._try(aws.in_thread(upload))

    async def finish(self, where: Where, manifest: bytes) -> None:
        await self.put(where, MANIFEST, manifest)
        aws = await self._connections.to(Aws)
        await self._try(aws.write("s3", "delete_object", Bucket=self._bucket, Key=self._key(where, BEGUN)))

    async def get(self, where: Where, name: str) -> bytes | None:
        aws = await self._connections.to(Aws)
        key = self._key(where, _checked(name))

        def download() -> bytes:
            body: bytes = aws.client("s3").get_object(Bucket=self._bucket, Key=key)["Body"].read()
            return body

        try:
            found: bytes = await aws.in_thread(download)
            return found
        except AwsRefused as e:
            if e.code in _GONE:
                return None
            raise

    async def stored(self) -> list[StoredFile]:
        found: dict[Where, StoredFile] = {}
        for item in await self._list(self._prefix):
            parts = item["Key"].removeprefix(self._prefix).split("/")
            if len(parts) != 3 or parts[2] not in (MANIFEST, BEGUN) or not all(map(is_plain, parts)):
                continue
            where, complete = Where(parts[0], parts[1]), parts[2] == MANIFEST
            if where not in found or complete:
                found[where] = StoredFile(where, item["LastModified"].astimezone(UTC), complete)
        return list(found.values())

    async def remove(self, where: Where) -> None:
        keys = sorted(
            (item["Key"] for item in await self._list(self._key(where, ""))),
            key=lambda key: key.rpartition("/")[2] in (MANIFEST, BEGUN),
        )
        aws = await self._connections.to(Aws)
        for start in range(0, len(keys), 1000):
            batch = {"Objects": [{"Key": key} for key in keys[start : start + 1000]], "Quiet": True}
            answer = await self._try(aws.write("s3", "delete_objects", Bucket=self._bucket, Delete=batch))
            if errors := answer.get("Errors"):
                raise Unavailable(f"{errors[0].get('Key')}: {errors[0].get('Message')}")

    async def _list(self, prefix: str) -> list[dict[str, Any]]:
        aws = await self._connections.to(Aws)
        found: list[dict[str, Any]] = []
        more: dict[str, str] = {}
        while True:
            request = {"Bucket": self._bucket, "Prefix": prefix, **more}
            answer = await self._try(aws.read("s3", "list_objects_v2", **request))
            found += answer.get("Contents", ())
            if not answer.get("IsTruncated"):
                return found
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def _key(self, where: Where, name: str) -> str:
        return f"{self._prefix}{_checked(where.deployment)}/{_checked(where.id)}/{name}"

    async def _try(self, asking: Awaitable[T]) -> T:
        try:
            return await asking
        except (StepFailed, Unavailable) as e:
            raise type(e)(*_with_bucket(e, self._bucket)) from e


def _with_bucket(e: Exception, bucket: str) -> tuple[str, ...]:
    message = f"s3://{bucket}: {e}"
    return (message, e.code) if isinstance(e, AwsRefused) else (message,)


async def is_evidence(store: EvidenceStore, stored: StoredFile) -> bool:
    """Whether a file in the folder says so. Files of others must never be deleted."""
    return FORMAT.encode() in (await store.get(stored.where, MANIFEST if stored.complete else BEGUN) or b"")[:200]


async def try_out(store: EvidenceStore) -> None:
    """Raises if the store is not writable. Deletes what it writes."""
    where = Where("responder-check", f"{os.getpid()}-{asyncio.get_running_loop().time():.6f}".replace(".", "-"))
    await store.begin(where, f'{{"format": "{FORMAT}"}}'.encode())
    await store.remove(where)
