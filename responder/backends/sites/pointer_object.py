"""A small object in S3 that names the live release."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import Field, JsonValue

from responder.backends.problems import Problem
from responder.backends.sites.releases import BesideReleases
from responder.backends.sites.rights import put_problems
from responder.backends.sites.s3_url import S3Location, S3Url
from responder.backends.sites.swapping import swapping
from responder.backends.sites.version_text import VersionText, pointer_problems, text_for, version_in
from responder.transport.aws import Aws, AwsRefused

KEPT = ("ContentType", "CacheControl", "ContentEncoding", "ContentDisposition", "ContentLanguage", "Metadata")
"""Metadata that a rewritten object keeps."""

REDIRECT = "WebsiteRedirectLocation"
"""Kept as well, unless the object is a copy of another one."""

_EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"


async def storage_of(aws: Aws, bucket: str, key: str) -> dict[str, Any]:
    """Returns the parameters that keep the storage class, KMS key, tags and public access of a rewritten object.

    Without them it gets those of the bucket: it becomes private, and policies that select it by a tag no longer apply.
    What cannot be read, or is not supported by the store, is left out.
    """
    head, grants, tags = [
        await _answer(aws, operation, bucket, key)
        for operation in ("head_object", "get_object_acl", "get_object_tagging")
    ]
    found = {"StorageClass": storage} if (storage := head.get("StorageClass")) else {}
    if str(head.get("ServerSideEncryption", "")).startswith("aws:kms"):
        found |= {name: head[name] for name in ("ServerSideEncryption", "SSEKMSKeyId") if head.get(name)}
    if any(grant["Grantee"].get("URI") == _EVERYBODY for grant in grants.get("Grants", ())):
        found["ACL"] = "public-read"
    if named := {tag["Key"]: tag["Value"] for tag in tags.get("TagSet", ())}:
        found["Tagging"] = urlencode(named)
    return found


async def _answer(aws: Aws, operation: str, bucket: str, key: str) -> dict[str, Any]:
    try:
        return await aws.read("s3", operation, Bucket=bucket, Key=key)
    except AwsRefused:
        return {}


class PointerObject(BesideReleases):
    """An object that chooses the release for its reader: an edge function, a server or the loader of a page."""

    resource: Literal["pointer_object"] = "pointer_object"
    object: S3Url = Field(description="Object, such as s3://shop/current.json")
    text: VersionText = Field(default='{"version": "{version}"}', description="Content, with {version}")

    async def read(self, aws: Aws) -> JsonValue:
        found = await aws.content(*self._where)
        return None if found is None else self._version(found[0])

    async def write(self, aws: Aws, value: JsonValue, *, expected: JsonValue) -> None:
        bucket, key = self._where
        found = await aws.content(bucket, key)
        version = None if found is None else self._version(found[0])
        self.must_be(version, expected, value)
        if version == value:
            return
        only: dict[str, Any] = {"IfNoneMatch": "*"} if found is None else {"IfMatch": found[1]["ETag"]}
        like = {} if found is None else {name: found[1][name] for name in (*KEPT, REDIRECT) if found[1].get(name)}
        only |= await storage_of(aws, bucket, key)
        with swapping(self):
            body = text_for(self.text, value).encode()
            await aws.write("s3", "put_object", Bucket=bucket, Key=key, Body=body, **like, **only)

    async def preflight(self, aws: Aws, value: JsonValue) -> tuple[str, ...]:
        text_for(self.text, value)
        return ()

    async def check_access(self, aws: Aws) -> list[Problem]:
        found = pointer_problems(str(self), await self.read(aws), self.text)
        return found or await put_problems(aws, *self._where, **await storage_of(aws, *self._where))

    @property
    def _where(self) -> tuple[str, str]:
        return S3Location.of(self.object)

    def _version(self, body: bytes) -> str:
        return version_in(self.text, body.decode(errors="replace").strip())

    def __str__(self) -> str:
        return f"pointer in {self.object}"
