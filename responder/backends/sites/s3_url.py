"""Locations in S3, such as `s3://bucket/prefix`."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

S3Url = Annotated[str, Field(pattern=r"^s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](/[^/\s]+)*$")]
"""A bucket and a key prefix, without a trailing slash."""


class S3Location(NamedTuple):
    bucket: str
    prefix: str

    @classmethod
    def of(cls, url: str) -> S3Location:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        return cls(bucket, prefix)

    def key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name
