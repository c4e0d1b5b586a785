"""The release that CloudFront serves: the key that a function reads, or the origin path. Also its cache."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from foundation.durations import Duration
from responder.backends.problems import Problem
from responder.backends.sites.purge import Purge
from responder.backends.sites.releases import BesideReleases
from responder.backends.sites.rights import NEVER, write_problems
from responder.backends.sites.swapping import swapping
from responder.backends.sites.version_text import VersionText, pointer_problems, require_short, text_for, version_in
from responder.errors import StepFailed, Unavailable
from responder.transport.aws import Aws, AwsRefused, now_at

_LOOKED_AT = 30
"""The number of invalidations that are searched, newest first. If ours is missing, it is requested again, and
CloudFront returns the existing one.
"""

_WILDCARDS, _LONGEST_PATH, _LONGEST_KEY, _LONGEST_VALUE = 15, 255, 512, 1024
"""Limits of CloudFront: paths with * that are invalidated at the same time, bytes of an origin path, key and value."""


def _invalidation_path(path: str) -> str:
    if not re.fullmatch(r"/[!-~]*", path) or set(path) & set('"<>#{}|\\^[]`') or "*" in path[:-1] or len(path) > 4000:
        raise ValueError(
            f"{path!r} is not a path that CloudFront can invalidate: expected / first, * only as the last character, "
            "and other special characters as %XX"
        )
    return path


def _short_key(key: str) -> str:
    if (size := len(key.encode())) > _LONGEST_KEY:
        raise ValueError(f"has {size} bytes, expected at most {_LONGEST_KEY}")
    return key


_LATELY = timedelta(days=1)
"""Older invalidations are not searched: each takes a request."""


class CloudfrontKey(BesideReleases):
    """A key of a KeyValueStore. A function reads it before the cache lookup, so no purge is needed."""

    resource: Literal["cloudfront_key"] = "cloudfront_key"
    kvs: str = Field(
        pattern=r"^arn:aws[-a-z]*:cloudfront::[0-9]{12}:key-value-store/[-\w]+$", description="ARN of the KeyValueStore"
    )
    key: Annotated[str, AfterValidator(_short_key)] = Field(
        min_length=1, description="Key whose value names the live release"
    )
    text: VersionText = Field(default="{version}", description="Value, with {version}")

    async def read(self, aws: Aws) -> JsonValue:
        try:
            found = await aws.read("cloudfront-keyvaluestore", "get_key", KvsARN=self.kvs, Key=self.key)
        except AwsRefused as refused:
            if refused.code == "ResourceNotFoundException":
                return None
            raise
        return version_in(self.text, found["Value"])

    async def write(self, aws: Aws, value: JsonValue, *, expected: JsonValue) -> None:
        store = await aws.read("cloudfront-keyvaluestore", "describe_key_value_store", KvsARN=self.kvs)
        self.must_be(found := await self.read(aws), expected, value)
        if found != value:
            request = {"KvsARN": self.kvs, "Key": self.key, "Value": text_for(self.text, value)}
            with swapping(self):
                await aws.write("cloudfront-keyvaluestore", "put_key", IfMatch=store["ETag"], **request)

    async def preflight(self, aws: Aws, value: JsonValue) -> tuple[str, ...]:
        require_short(text_for(self.text, value), _LONGEST_VALUE, self)
        await aws.read("cloudfront-keyvaluestore", "describe_key_value_store", KvsARN=self.kvs)
        return ()

    async def check_access(self, aws: Aws) -> list[Problem]:
        await aws.read("cloudfront-keyvaluestore", "describe_key_value_store", KvsARN=self.kvs)
        live = await self.read(aws)
        if found := pointer_problems(str(self), live, self.text):
            return found
        request = {"KvsARN": self.kvs, "Key": self.key, "Value": text_for(self.text, live), "IfMatch": NEVER}
        return await write_problems(aws, self, "cloudfront-keyvaluestore", "put_key", **request)

    def __str__(self) -> str:
        return f"key {self.key} of CloudFront store {self.kvs.rpartition('/')[2][:8]}"


class OriginPath(BesideReleases):
    """The path that a distribution adds to every request to its origin. It is not part of the cache key."""

    resource: Literal["origin_path"] = "origin_path"
    origin_path: VersionText = Field(pattern="^/.*[^/]$", description="Path, such as /releases/{version}")
    distribution: str = Field(pattern="^[A-Za-z0-9]+$", description="ID of the CloudFront distribution")
    origin: str = Field(default="", description="Origin ID, if it has several")
    within: Duration = Field(default=1800.0, gt=0, description="Deadline until every edge uses it")

    @property
    def converge_timeout(self) -> float:
        return self.within

    async def read(self, aws: Aws) -> JsonValue:
        found = await aws.read("cloudfront", "get_distribution_config", Id=self.distribution)
        return self._version(found["DistributionConfig"])

    async def write(self, aws: Aws, value: JsonValue, *, expected: JsonValue) -> None:
        found = await aws.read("cloudfront", "get_distribution_config", Id=self.distribution)
        config = found["DistributionConfig"]
        version = self._version(config)
        self.must_be(version, expected, value)
        if version != value:
            self._in(config)["OriginPath"] = text_for(self.origin_path, value)
            request = {"Id": self.distribution, "DistributionConfig": config}
            with swapping(self):
                await aws.write("cloudfront", "update_distribution", IfMatch=found["ETag"], **request)

    async def converged(self, aws: Aws, value: JsonValue) -> bool:
        found = (await aws.read("cloudfront", "get_distribution", Id=self.distribution))["Distribution"]
        return self._version(found["DistributionConfig"]) == value and found["Status"].lower() == "deployed"

    async def preflight(self, aws: Aws, value: JsonValue) -> tuple[str, ...]:
        require_short(text_for(self.origin_path, value), _LONGEST_PATH, self)
        note = "if Terraform, CDK or a similar tool manages it, change it there too, or the bad version returns"
        notes = [f"{self} is changed directly: {note}"]
        found = (await aws.read("cloudfront", "get_distribution", Id=self.distribution))["Distribution"]
        if found["Status"].lower() != "deployed":
            notes.append(
                f"an earlier change of it is still being deployed ({found['Status']}): edges differ until then"
            )
        if found["DistributionConfig"].get("ContinuousDeploymentPolicyId"):
            notes.append("its continuous deployment policy sends visitors to a staging distribution, too: not changed")
        return tuple(notes)

    async def check_access(self, aws: Aws) -> list[Problem]:
        found = await aws.read("cloudfront", "get_distribution_config", Id=self.distribution)
        config = found["DistributionConfig"]
        if problems := pointer_problems(str(self), self._version(config), self.origin_path):
            return problems
        request = {"Id": self.distribution, "DistributionConfig": config, "IfMatch": NEVER}
        return await write_problems(aws, self, "cloudfront", "update_distribution", **request)

    def _version(self, config: dict[str, Any]) -> str:
        return version_in(self.origin_path, self._in(config)["OriginPath"])

    def _in(self, config: dict[str, Any]) -> dict[str, Any]:
        origins = {origin["Id"]: origin for origin in config["Origins"]["Items"]}
        if self.origin in origins or (not self.origin and len(origins) == 1):
            found: dict[str, Any] = origins[self.origin] if self.origin else next(iter(origins.values()))
            return found
        wrong = f"no origin {self.origin}" if self.origin else "several origins: set `origin` to one of them"
        raise StepFailed(f"the distribution {self.distribution} has {wrong} ({', '.join(origins)})")

    def __str__(self) -> str:
        return f"origin path of CloudFront distribution {self.distribution}"


class CloudfrontInvalidation(Purge[Aws]):
    """An invalidation of the caches of CloudFront, once for a rollback: its reference is derived from it."""

    resource: Literal["cloudfront_invalidation"] = "cloudfront_invalidation"
    cloudfront: str = Field(pattern="^[A-Za-z0-9]+$", description="ID of the distribution")
    paths: tuple[Annotated[str, AfterValidator(_invalidation_path)], ...] = Field(
        default=("/*",),
        min_length=1,
        max_length=3000,
        description="Paths to invalidate, each starting with /; `/*` counts as one, at most 15 end with *",
    )
    within: Duration = Field(default=900.0, gt=0, description="Deadline, including waits for other invalidations")

    @model_validator(mode="after")
    def _is_accepted(self) -> CloudfrontInvalidation:
        if (wildcards := sum(path.endswith("*") for path in self.paths)) > _WILDCARDS:
            raise ValueError(
                f"paths: {wildcards} of them end with *, CloudFront accepts at most {_WILDCARDS} at a time"
            )
        return self

    @property
    def timeout(self) -> float:
        return self.within

    @property
    def read_timeout(self) -> float:
        return 30.0

    @property
    def _scope(self) -> JsonValue:
        return [self.cloudfront, *sorted(self.paths)]

    async def read(self, aws: Aws) -> JsonValue:
        return self.reference if await self._found(aws) is not None else None

    async def converged(self, aws: Aws, value: JsonValue) -> bool:
        if value is None:
            return True
        found = await self._found(aws)
        return found is not None and str(found["Status"]).lower() == "completed"

    async def write(self, aws: Aws, value: JsonValue, *, expected: JsonValue) -> None:
        if value is None:
            return
        paths = sorted(set(self.paths))
        batch: dict[str, Any] = {"Paths": {"Quantity": len(paths), "Items": paths}, "CallerReference": value}
        request: dict[str, Any] = {"DistributionId": self.cloudfront, "InvalidationBatch": batch}
        try:
            await aws.write("cloudfront", "create_invalidation", **request)
        except AwsRefused as refused:
            if refused.code == "TooManyInvalidationsInProgress":
                raise Unavailable(f"{self.cloudfront} is at its limit of running invalidations") from refused
            raise

    async def preflight(self, aws: Aws, value: JsonValue) -> tuple[str, ...]:
        await aws.read("cloudfront", "list_invalidations", DistributionId=self.cloudfront, MaxItems="1")
        return ()

    async def check_access(self, aws: Aws) -> list[Problem]:
        await self.preflight(aws, None)
        paths = {"Quantity": 2, "Items": [f"/{NEVER}"]}  # a wrong number of paths is always refused
        request = {"DistributionId": self.cloudfront, "InvalidationBatch": {"Paths": paths, "CallerReference": NEVER}}
        return await write_problems(aws, self, "cloudfront", "create_invalidation", **request)

    async def _found(self, aws: Aws) -> dict[str, Any] | None:
        request = {"DistributionId": self.cloudfront, "MaxItems": str(_LOOKED_AT)}
        listing = await aws.read("cloudfront", "list_invalidations", **request)
        now = now_at(listing)
        for item in listing["InvalidationList"].get("Items", ()):
            if (made := item.get("CreateTime")) and now - made > _LATELY:
                break
            request = {"DistributionId": self.cloudfront, "Id": item["Id"]}
            found: dict[str, Any] = (await aws.read("cloudfront", "get_invalidation", **request))["Invalidation"]
            if found["InvalidationBatch"]["CallerReference"] == self.reference:
                return found
        return None

    @property
    def _name(self) -> str:
        return f"cache of CloudFront distribution {self.cloudfront}"
