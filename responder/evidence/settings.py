"""Settings: where evidence is stored, for how long, and its limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from foundation.durations import Duration
from foundation.models import StrictModel, exactly_one
from responder.config.sizes import Size
from responder.evidence.redaction import problem_of

_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/[A-Za-z0-9!_.*'()/-]*)?")


class EvidenceSettings(StrictModel):
    """Evidence that is collected before the first change of a rollback."""

    base_directory: Path | None = Field(
        default=None, description="Absolute path; each execution gets {deployment_id}/{execution}/ in it"
    )
    s3: str | None = Field(
        default=None, description="Instead of base_directory: s3://bucket/prefix, accessed through `aws`"
    )
    within: Duration = Field(
        default=10.0, gt=0, le=300, description="Maximum delay of a rollback, including storage; in seconds or as 10s"
    )
    before: Duration = Field(default=600.0, description="Start of the logs, before the onset")
    total: Size = Field(
        default=200 << 20, ge=1 << 20, description="Maximum total size per execution, before compression"
    )
    redact: Annotated[
        tuple[str, ...],
        Field(description="Additional RE2 expressions; redacts the groups of a match, or all of it without groups"),
    ] = ()
    retention: Duration = Field(
        default=30 * 86400.0, gt=0, description="Retention time; evidence of open rollbacks is kept longer"
    )

    @field_validator("base_directory")
    @classmethod
    def _is_absolute(cls, value: Path | None) -> Path | None:
        if value is not None and (not value.is_absolute() or value == Path("/")):
            raise ValueError(f"{value} must be the absolute path of a directory that is used for evidence only")
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
        exactly_one(self, "base_directory", "s3")
        return self

    @property
    def bucket(self) -> tuple[str, str]:
        """Bucket and prefix; the prefix ends in a slash, or is empty."""
        bucket, _, prefix = (self.s3 or "").removeprefix("s3://").partition("/")
        prefix = prefix.strip("/")
        return bucket, f"{prefix}/" if prefix else ""
