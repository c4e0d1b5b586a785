"""Objects of unknown length in S3: parts of one size, and a further object after every 10,000 parts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC
from typing import Any, NamedTuple, TypeVar

from responder.errors import ResponderError, StepFailed, Unavailable
from responder.transport.aws import Aws, AwsRefused
from responder.transport.object_store import MissingObject, Stored, StoredStream

T = TypeVar("T")

PART = 8 << 20  # as boto3: smaller ones leave less to send after the end of the stream
PARTS_OF_AN_OBJECT = 10_000
PARTS_AT_ONCE = 2
"""Uploads of one stream at a time. With the first part and the one being filled, four parts are in memory."""

_DELETES_AT_ONCE = 8
_TRIES = 4
_ABORT_WITHIN = 15.0


class _Sent(NamedTuple):
    """A part, or a whole object: its ETag from the store, and its MD5 from here."""

    etag: str
    md5: bytes


class S3Store:
    """A prefix of a bucket. Each part is retried by itself."""

    def __init__(
        self, aws: Aws, bucket: str, prefix: str, *, part: int = PART, parts_of_an_object: int = PARTS_OF_AN_OBJECT
    ) -> None:
        self._aws, self._bucket, self._prefix = aws, bucket, prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._part, self._most = part, parts_of_an_object

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def url(self, name: str) -> str:
        return f"{self}{name}"

    async def put(self, name: str, blocks: AsyncIterator[bytes]) -> Stored:
        names: list[str] = []
        confirmed = True
        parts = self._parts(blocks)
        ahead = await anext(parts, b"")
        try:
            while ahead or not names:
                names.append(name if not names else f"{name}.{len(names):03}")
                ahead, same = await self._object(self._prefix + names[-1], ahead, parts)
                confirmed &= same
        except BaseException:
            with contextlib.suppress(TimeoutError, ResponderError):
                async with asyncio.timeout(_ABORT_WITHIN):
                    await self.delete(tuple(names[:-1]))
            raise
        return Stored(tuple(names), confirmed)

    async def _object(
        self, key: str, first: bytes | bytearray, parts: AsyncIterator[bytearray]
    ) -> tuple[bytes | bytearray, bool]:
        """Stores one object from its first part on.

        Returns the first part that belongs to the next object, and whether the ETag is the MD5 of the content. A store
        computes such an ETag from what it received. With other ETags (SSE-KMS) only reading shows what it holds.
        """
        if len(first) < self._part:
            sent = await self._send("put_object", first, Key=key)
            return b"", sent.etag == sent.md5.hex()
        upload = (await self._retry("create_multipart_upload", Key=key))["UploadId"]
        sending: list[asyncio.Task[_Sent]] = []
        try:
            left = first
            while left and len(sending) < self._most:
                if len(sending) >= PARTS_AT_ONCE:
                    await sending[-PARTS_AT_ONCE]
                send = self._send("upload_part", left, Key=key, UploadId=upload, PartNumber=len(sending) + 1)
                sending.append(asyncio.create_task(send))
                left = await anext(parts, b"")
            every = [await task for task in sending]
            listed = [{"PartNumber": n, "ETag": sent.etag} for n, sent in enumerate(every, start=1)]
            completed = await self._retry(
                "complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload={"Parts": listed}
            )
        except BaseException:
            with contextlib.suppress(TimeoutError, ResponderError):
                async with asyncio.timeout(_ABORT_WITHIN):
                    # A part that arrives after the abort would be stored forever.
                    await asyncio.gather(*sending, return_exceptions=True)
                    await self._aws.write("s3", "abort_multipart_upload", Bucket=self._bucket, Key=key, UploadId=upload)
            for task in sending:
                task.cancel()
            raise
        whole = hashlib.md5(b"".join(sent.md5 for sent in every), usedforsecurity=False)
        return left, _etag(completed) == f"{whole.hexdigest()}-{len(every)}"

    async def _send(self, operation: str, part: bytes | bytearray, **params: Any) -> _Sent:
        """Uploads one part. S3 rejects it if its MD5 differs."""
        md5 = (await asyncio.to_thread(hashlib.md5, part, usedforsecurity=False)).digest()
        content_md5 = base64.b64encode(md5).decode()
        return _Sent(_etag(await self._retry(operation, Body=part, ContentMD5=content_md5, **params)), md5)

    async def _parts(self, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytearray]:
        part = bytearray()
        async for block in blocks:
            part += block
            while len(part) >= self._part:
                full, part = part[: self._part], part[self._part :]
                yield full
        if part:
            yield part

    async def get(self, name: str) -> AsyncGenerator[bytes]:
        """Yields an object in ranges, and fetches the next one meanwhile. The object must not change."""
        key = self._prefix + name
        head = await self._find(key)
        size, etag = int(head["ContentLength"]), head["ETag"]
        ranges = [(at, min(at + self._part, size) - 1) for at in range(0, size, self._part)]
        coming: asyncio.Task[bytes] | None = None
        try:
            for i, span in enumerate(ranges):
                block = await (coming or self._range(key, etag, *span))
                coming = asyncio.create_task(self._range(key, etag, *ranges[i + 1])) if i + 1 < len(ranges) else None
                yield block
        finally:
            if coming is not None:
                coming.cancel()

    async def _find(self, key: str) -> Any:
        try:
            return await self._retry("head_object", change=False, Key=key)
        except AwsRefused as e:
            if not e.is_missing:
                raise
            await self._first()  # raises for a missing bucket, which HEAD answers like a missing object
            raise MissingObject(f"s3://{self._bucket}/{key} does not exist") from e

    async def _range(self, key: str, etag: str, first: int, last: int) -> bytes:
        def fetch() -> bytes:
            span = f"bytes={first}-{last}"
            answer = self._aws.client("s3").get_object(Bucket=self._bucket, Key=key, Range=span, IfMatch=etag)
            body: bytes = answer["Body"].read()
            return body

        for tried in range(_TRIES):
            try:
                with self._located():
                    body: bytes = await self._aws.in_thread(fetch)
                if len(body) == last - first + 1:
                    return body
            except Unavailable:
                if tried == _TRIES - 1:
                    raise
            await asyncio.sleep(0.2 * 2**tried)
        raise Unavailable(f"s3://{self._bucket}/{key} is cut short")

    async def list(self, prefix: str, *, unfinished: bool = False) -> list[StoredStream]:
        found = await self._tried(lambda: self._aws.objects(self._bucket, self._prefix + prefix))
        return [
            StoredStream(item["Key"].removeprefix(self._prefix), item["Size"], item["LastModified"].astimezone(UTC))
            for item in found
        ]

    async def delete(self, names: tuple[str, ...]) -> None:
        for start in range(0, len(names), _DELETES_AT_ONCE):
            batch = names[start : start + _DELETES_AT_ONCE]
            await asyncio.gather(*(self._retry("delete_object", Key=self._prefix + name) for name in batch))

    async def clear(self, prefix: str) -> None:
        after: dict[str, str] = {}
        while True:
            page = await self._retry("list_multipart_uploads", change=False, Prefix=self._prefix + prefix, **after)
            for upload in page.get("Uploads", ()):
                if upload["Key"].startswith(self._prefix + prefix):  # some stores ignore the prefix
                    with contextlib.suppress(AwsRefused):  # already aborted by another replica
                        await self._retry("abort_multipart_upload", Key=upload["Key"], UploadId=upload["UploadId"])
            if not page.get("IsTruncated"):
                break
            after = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
        await self.delete(tuple(stored.name for stored in await self.list(prefix)))

    async def room(self) -> int | None:
        await self._first()
        # An upload that is aborted without content leaves nothing, and needs the permission to write.
        key = f"{self._prefix}rollback-responder-check"
        upload = (await self._retry("create_multipart_upload", change=False, Key=key))["UploadId"]
        with contextlib.suppress(ResponderError):
            await self._retry("abort_multipart_upload", change=False, Key=key, UploadId=upload)
        return None

    async def _first(self) -> None:
        await self._retry("list_objects_v2", change=False, Prefix=self._prefix, MaxKeys=1)

    async def _retry(self, operation: str, *, change: bool = True, **params: Any) -> Any:
        call = self._aws.write if change else self._aws.read
        return await self._tried(lambda: call("s3", operation, Bucket=self._bucket, **params))

    async def _tried(self, act: Callable[[], Awaitable[T]]) -> T:
        with self._located():
            for tried in range(_TRIES - 1):
                try:
                    return await act()
                except Unavailable:
                    await asyncio.sleep(0.2 * 2**tried)
            return await act()

    @contextlib.contextmanager
    def _located(self) -> Iterator[None]:
        """Adds the location to every error."""
        try:
            yield
        except AwsRefused as e:
            raise AwsRefused(f"{self}: {e}", e.code, e.status) from e
        except (StepFailed, Unavailable) as e:
            raise type(e)(f"{self}: {e}") from e


def _etag(answer: Any) -> str:
    return str(answer.get("ETag", "")).strip('"')
