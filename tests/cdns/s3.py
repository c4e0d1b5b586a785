"""A bucket store with ETags, conditions, copies, storage classes and pages. It has the buckets of its objects.

Kinder than the real one: no SlowDown, no errors after a 200 of a copy, and no permissions for single keys.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from urllib.parse import unquote
from xml.sax.saxutils import escape

from tests.cdns.wire import Refusal, Request, Response

_KEPT = ("content-type", "cache-control", "content-encoding")


@dataclass
class Stored:
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    key: bytes = b""  # encryption key: then the ETag does not depend on the content
    storage: str = "STANDARD"
    restored: bool = False  # a temporary copy of an archived object

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body + self.key, usedforsecurity=False).hexdigest()}"'


class S3:
    def __init__(self, page: int = 1000) -> None:
        self.objects: dict[str, Stored] = {}  # by bucket/key
        self.page = page
        self.deletes: list[str] = []
        self.copied: list[str] = []
        self.encrypts = False
        self.denied: set[str] = set()  # methods that the credentials may not use
        self.uploads = 0  # unfinished ones

    def put(self, path: str, body: str | bytes, **headers: str) -> None:
        stored_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.objects[path] = Stored(body.encode() if isinstance(body, str) else body, stored_headers)

    def answer(self, request: Request) -> Response:
        path = request.path.lstrip("/")
        bucket, _, key = path.partition("/")
        try:
            if not key:
                return self._list(bucket, request)
            if {"acl", "tagging"} & set(request.query):  # as many other stores
                raise Refusal(501, "NotImplemented")
            if {request.method, "PUT" if "uploads" in request.query else ""} & self.denied:
                raise Refusal(403, "AccessDenied")
            if request.method == "POST" and "uploads" in request.query:
                upload = "<UploadId>u1</UploadId>"
                body = f"<InitiateMultipartUploadResult>{upload}</InitiateMultipartUploadResult>"
                self.uploads += 1
                return Response(200, body.encode())
            if request.method == "DELETE" and "uploadId" in request.query:
                self.uploads -= 1
                return Response(204)
            if len(key.encode()) > 1024:
                raise Refusal(400, "KeyTooLongError")
            match request.method:
                case "PUT":
                    return self._put(path, request)
                case "DELETE":
                    self.deletes.append(path)
                    self.objects.pop(path, None)
                    return Response(204)
            return self._get(self._stored(path, "NoSuchKey"), request.method)
        except Refusal as no:
            body = "" if request.method == "HEAD" else f"<Error><Code>{no.code}</Code><Message>{no}</Message></Error>"
            return Response(no.status, body.encode())

    def _stored(self, path: str, code: str) -> Stored:
        if path not in self.objects:
            raise Refusal(404, code)
        return self.objects[path]

    def _get(self, found: Stored, method: str) -> Response:
        headers = {
            "content-type": "binary/octet-stream",
            **found.headers,
            "ETag": found.etag,
            "Content-Length": str(len(found.body)),
        }
        if found.storage != "STANDARD":
            headers["x-amz-storage-class"] = found.storage
        if found.restored:
            headers["x-amz-restore"] = 'ongoing-request="false", expiry-date="Fri, 21 Dec 2029 00:00:00 GMT"'
        if method == "GET":
            self._readable(found)
        return Response(200, b"" if method == "HEAD" else found.body, headers)

    @staticmethod
    def _readable(found: Stored) -> None:
        if found.storage in ("GLACIER", "DEEP_ARCHIVE") and not found.restored:
            raise Refusal(403, "InvalidObjectState", "The operation is not valid for the object's storage class")

    def _put(self, path: str, request: Request) -> Response:
        existing = self.objects.get(path)
        if (wanted := request.headers.get("if-match")) and (
            existing is None or wanted.strip('"') != existing.etag.strip('"')
        ):
            raise Refusal(412 if existing else 404, "PreconditionFailed" if existing else "NoSuchKey")
        if request.headers.get("if-none-match") == "*" and existing is not None:
            raise Refusal(412, "PreconditionFailed")
        if source := request.headers.get("x-amz-copy-source"):
            self._readable(found := self._stored(unquote(source).lstrip("/"), "NoSuchKey"))
            self.objects[path] = Stored(found.body, dict(found.headers), path.encode() if self.encrypts else b"")
            self.copied.append(path)
            result = f"<CopyObjectResult><ETag>{escape(found.etag)}</ETag></CopyObjectResult>"
            return Response(200, result.encode())
        self.objects[path] = Stored(request.body, {k: v for k, v in request.headers.items() if k in _KEPT})
        return Response(200, headers={"ETag": self.objects[path].etag})

    def _list(self, bucket: str, request: Request) -> Response:
        if not any(path.startswith(f"{bucket}/") for path in self.objects):
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist")
        before, after = f"{bucket}/{request.query.get('prefix', '')}", request.query.get("continuation-token", "")
        keys = sorted(path for path in self.objects if path.startswith(before) and path > after)
        page = keys[: self.page]
        parts = [f"<IsTruncated>{str(len(keys) > len(page)).lower()}</IsTruncated>"]
        if len(keys) > len(page):
            parts.append(f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>")
        for path in page:
            stored = self.objects[path]
            entry = f"<Key>{escape(path.partition('/')[2])}</Key><ETag>{escape(stored.etag)}</ETag>"
            entry += f"<Size>{len(stored.body)}</Size><StorageClass>{stored.storage}</StorageClass>"
            parts.append(f"<Contents>{entry}</Contents>")
        return Response(200, f"<ListBucketResult>{''.join(parts)}</ListBucketResult>".encode())
