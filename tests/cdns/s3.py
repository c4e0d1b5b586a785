"""A bucket store with ETags, conditions, copies and pages."""

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
    key: bytes = b""  # that it is encrypted with: then the ETag says nothing of the content

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

    def put(self, path: str, body: str | bytes, **headers: str) -> None:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        self.objects[path] = Stored(body.encode() if isinstance(body, str) else body, told)

    def answer(self, asked: Request) -> Response:
        path = asked.path.lstrip("/")
        bucket, _, key = path.partition("/")
        try:
            if not key:
                return self._list(bucket, asked)
            if "acl" in asked.query:  # as many stores that are not Amazon's
                raise Refusal(501, "NotImplemented")
            match asked.method:
                case "PUT":
                    return self._put(path, asked)
                case "DELETE":
                    self.deletes.append(path)
                    self.objects.pop(path, None)
                    return Response(204)
            found = self._stored(path, "NoSuchKey")
            told = {**found.headers, "ETag": found.etag, "Content-Length": str(len(found.body))}
            return Response(200, b"" if asked.method == "HEAD" else found.body, told)
        except Refusal as no:
            body = "" if asked.method == "HEAD" else f"<Error><Code>{no.code}</Code><Message>{no}</Message></Error>"
            return Response(no.status, body.encode())

    def _stored(self, path: str, code: str) -> Stored:
        if path not in self.objects:
            raise Refusal(404, code)
        return self.objects[path]

    def _put(self, path: str, asked: Request) -> Response:
        there = self.objects.get(path)
        if (wanted := asked.headers.get("if-match")) and (there is None or wanted.strip('"') != there.etag.strip('"')):
            raise Refusal(412 if there else 404, "PreconditionFailed" if there else "NoSuchKey")
        if asked.headers.get("if-none-match") == "*" and there is not None:
            raise Refusal(412, "PreconditionFailed")
        if source := asked.headers.get("x-amz-copy-source"):
            found = self._stored(unquote(source).lstrip("/"), "NoSuchKey")
            self.objects[path] = Stored(found.body, dict(found.headers), path.encode() if self.encrypts else b"")
            self.copied.append(path)
            told = f"<CopyObjectResult><ETag>{escape(found.etag)}</ETag></CopyObjectResult>"
            return Response(200, told.encode())
        self.objects[path] = Stored(asked.body, {k: v for k, v in asked.headers.items() if k in _KEPT})
        return Response(200, headers={"ETag": self.objects[path].etag})

    def _list(self, bucket: str, asked: Request) -> Response:
        before, after = f"{bucket}/{asked.query.get('prefix', '')}", asked.query.get("continuation-token", "")
        keys = sorted(path for path in self.objects if path.startswith(before) and path > after)
        page = keys[: self.page]
        parts = [f"<IsTruncated>{str(len(keys) > len(page)).lower()}</IsTruncated>"]
        if len(keys) > len(page):
            parts.append(f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>")
        for path in page:
            one = self.objects[path]
            told = f"<Key>{escape(path.partition('/')[2])}</Key><ETag>{escape(one.etag)}</ETag>"
            parts.append(f"<Contents>{told}<Size>{len(one.body)}</Size></Contents>")
        return Response(200, f"<ListBucketResult>{''.join(parts)}</ListBucketResult>".encode())
