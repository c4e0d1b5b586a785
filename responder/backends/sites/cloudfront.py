"""Which release CloudFront serves, by the key that its function reads or by its origin's path; and its cache."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import Field, JsonValue

from responder.backends.problems import Problem
from responder.backends.sites.purge import Purge
from responder.backends.sites.releases import BesideReleases
from responder.backends.sites.swapping import swapping
from responder.backends.sites.version_text import VersionText, pointer_problems, text_for, version_in
from responder.config.durations import Duration
from responder.errors import StepFailed, Unavailable
from responder.transport.aws import Aws, AwsRefused

_LOOKED_AT = 30
"""Invalidations of a distribution that are looked through for ours, the newest first. Where ours is not among them it
is asked for again, and CloudFront answers with the one that it has.
"""

_LATELY = timedelta(days=1)
"""Older ones are not looked at: each is a request."""


class CloudfrontKey(BesideReleases):
    """A key of a KeyValueStore, read by a function before the cache is asked: so no cache has to be emptied."""

    resource: Literal["cloudfront_key"] = "cloudfront_key"
    kvs: str = Field(
        pattern=r"^arn:aws[-a-z]*:cloudfront::\d{12}:key-value-store/[-\w]+$", description="ARN of the KeyValueStore"
    )
    key: str = Field(min_length=1, description="The key that says which release is live")
    text: VersionText = Field(default="{version}", description="What it says")

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
        await aws.read("cloudfront-keyvaluestore", "describe_key_value_store", KvsARN=self.kvs)
        return ()

    async def check_access(self, aws: Aws) -> list[Problem]:
        await aws.read("cloudfront-keyvaluestore", "describe_key_value_store", KvsARN=self.kvs)
        return pointer_problems(str(self), await self.read(aws), self.text)

    def __str__(self) -> str:
        return f"key {self.key} of CloudFront's store {self.kvs.rpartition('/')[2][:8]}"


class OriginPath(BesideReleases):
    """The path that a distribution puts before every request to its origin. The cache does not know it."""

    resource: Literal["origin_path"] = "origin_path"
    origin_path: VersionText = Field(pattern="^/.*[^/]$", description="The path, as /releases/{version}")
    distribution: str = Field(pattern=r"^\w+$", description="Id of the CloudFront distribution")
    origin: str = Field(default="", description="Id of its origin, where it has several")
    within: Duration = Field(default=1800.0, gt=0, description="Deadline until every edge has it")

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
        note = "where Terraform, CDK or the like keep it, tell them: else their next run brings the bad version back"
        return (f"{self} is set by hand: {note}",)

    async def check_access(self, aws: Aws) -> list[Problem]:
        return pointer_problems(str(self), await self.read(aws), self.origin_path)

    def _version(self, config: dict[str, Any]) -> str:
        return version_in(self.origin_path, self._in(config)["OriginPath"])

    def _in(self, config: dict[str, Any]) -> dict[str, Any]:
        origins = {origin["Id"]: origin for origin in config["Origins"]["Items"]}
        if self.origin in origins or (not self.origin and len(origins) == 1):
            found: dict[str, Any] = origins[self.origin] if self.origin else next(iter(origins.values()))
            return found
        wrong = f"no origin {self.origin}" if self.origin else "several origins: name one of them as `origin`"
        raise StepFailed(f"the distribution {self.distribution} has {wrong} ({', '.join(origins)})")

    def __str__(self) -> str:
        return f"origin path of CloudFront's {self.distribution}"


class CloudfrontInvalidation(Purge[Aws]):
    """What CloudFront's edges hold. One invalidation for one rollback: its reference is made of what it is for."""

    resource: Literal["cloudfront_invalidation"] = "cloudfront_invalidation"
    cloudfront: str = Field(pattern=r"^\w+$", description="Id of the distribution")
    paths: tuple[str, ...] = Field(
        default=("/*",), min_length=1, description="What is emptied; each begins with /, `/*` counts as one"
    )
    within: Duration = Field(default=900.0, gt=0, description="Deadline, waiting for others' invalidations included")

    @property
    def timeout(self) -> float:
        return self.within

    @property
    def read_timeout(self) -> float:
        return 30.0

    @property
    def _what(self) -> JsonValue:
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
        paths = sorted(self.paths)
        batch: dict[str, Any] = {"Paths": {"Quantity": len(paths), "Items": paths}, "CallerReference": value}
        request: dict[str, Any] = {"DistributionId": self.cloudfront, "InvalidationBatch": batch}
        try:
            await aws.write("cloudfront", "create_invalidation", **request)
        except AwsRefused as refused:
            if refused.code == "TooManyInvalidationsInProgress":
                raise Unavailable(f"{self.cloudfront} has as many invalidations under way as it may have") from refused
            raise

    async def preflight(self, aws: Aws, value: JsonValue) -> tuple[str, ...]:
        await aws.read("cloudfront", "list_invalidations", DistributionId=self.cloudfront, MaxItems="1")
        return ()

    async def check_access(self, aws: Aws) -> list[Problem]:
        await self.preflight(aws, None)
        return []

    async def _found(self, aws: Aws) -> dict[str, Any] | None:
        request = {"DistributionId": self.cloudfront, "MaxItems": str(_LOOKED_AT)}
        listed = (await aws.read("cloudfront", "list_invalidations", **request))["InvalidationList"]
        for item in listed.get("Items", ()):
            if (made := item.get("CreateTime")) and datetime.now(UTC) - made > _LATELY:
                break
            request = {"DistributionId": self.cloudfront, "Id": item["Id"]}
            found: dict[str, Any] = (await aws.read("cloudfront", "get_invalidation", **request))["Invalidation"]
            if found["InvalidationBatch"]["CallerReference"] == self.reference:
                return found
        return None

    @property
    def _name(self) -> str:
        return f"cache of CloudFront's {self.cloudfront}"
