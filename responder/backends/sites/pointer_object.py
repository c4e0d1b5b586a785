"""A small object in S3 that names the live release."""

from __future__ import annotations

from typing import Any, Literal

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

_EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"


async def acl_of(aws: Aws, bucket: str, key: str) -> dict[str, Any]:
    """Returns the parameters that keep a rewritten object public. Without them it becomes private.

    Empty if its ACL does not grant everyone access, cannot be read, or is not supported by the store.
    """
    try:
        grants = (await aws.read("s3", "get_object_acl", Bucket=bucket, Key=key))["Grants"]
    except AwsRefused:
        return {}
    return {"ACL": "public-read"} if any(grant["Grantee"].get("URI") == _EVERYBODY for grant in grants) else {}


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
        like = {} if found is None else {name: found[1][name] for name in KEPT if found[1].get(name)}
        only |= await acl_of(aws, bucket, key)
        with swapping(self):
            body = text_for(self.text, value).encode()
            await aws.write("s3", "put_object", Bucket=bucket, Key=key, Body=body, **like, **only)

    async def preflight(self, aws: Aws, value: JsonValue) -> tuple[str, ...]:
        text_for(self.text, value)
        return ()

    async def check_access(self, aws: Aws) -> list[Problem]:
        found = pointer_problems(str(self), await self.read(aws), self.text)
        return found or await put_problems(aws, *self._where, **await acl_of(aws, *self._where))

    @property
    def _where(self) -> tuple[str, str]:
        return S3Location.of(self.object)

    def _version(self, body: bytes) -> str:
        return version_in(self.text, body.decode(errors="replace").strip())

    def __str__(self) -> str:
        return f"pointer in {self.object}"
