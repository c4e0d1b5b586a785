"""Where evidence is kept, for how long, and what it may cost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from responder.config.durations import Duration
from responder.config.sizes import Size
from responder.evidence.redaction import problem_of

_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/[A-Za-z0-9!_.*'()/-]*)?")


class EvidenceSettings(BaseModel):
    """What is kept of a service in trouble before anything is touched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_directory: Path | None = Field(
        default=None, description="Absolute path; each execution gets {deployment_id}/{execution}/ in it"
    )
    s3: str | None = Field(default=None, description="Instead, s3://bucket/prefix; reached as `aws` says")
    within: Duration = Field(
        default=10.0, gt=0, le=300, description="The most that it delays a rollback, storing included"
    )
    before: Duration = Field(default=600.0, description="Logs are kept from so long before the trouble began")
    total: Size = Field(
        default=200 << 20, ge=1 << 20, description="Cap on all that is kept of one execution, before packing"
    )
    redact: Annotated[
        tuple[str, ...],
        Field(description="RE2 expressions besides the usual ones. Of a match its groups are taken out, or all of it"),
    ] = ()
    retention: Duration = Field(default=30 * 86400.0, gt=0, description="Deleted after that, unless it is still open")

    @field_validator("base_directory")
    @classmethod
    def _is_absolute(cls, value: Path | None) -> Path | None:
        if value is not None and (not value.is_absolute() or value == Path("/")):
            raise ValueError(f"{value} must be an absolute path of a directory of its own")
        return value

    @field_validator("s3")
    @classmethod
    def _is_a_bucket(cls, value: str | None) -> str | None:
        if value is not None and not _BUCKET.fullmatch(value):
            raise ValueError(f"{value!r} is not s3://bucket/prefix")
        return value

    @field_validator("redact")
    @classmethod
    def _compile(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if problems := [problem for pattern in value if (problem := problem_of(pattern))]:
            raise ValueError("; ".join(problems))
        return value

    @model_validator(mode="after")
    def _is_somewhere(self) -> EvidenceSettings:
        if (self.base_directory is None) == (self.s3 is None):
            raise ValueError("needs exactly one of base_directory, s3")
        return self

    @property
    def bucket(self) -> tuple[str, str]:
        """Bucket and prefix; the prefix ends in a slash, or is empty."""
        bucket, _, prefix = (self.s3 or "").removeprefix("s3://").partition("/")
        prefix = prefix.strip("/")
        return bucket, f"{prefix}/" if prefix else ""
