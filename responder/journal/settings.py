"""Settings: how long details of closed rollbacks and decisions stay in the journal, and where they are archived."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from foundation.durations import Duration
from foundation.models import StrictModel

_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/?([A-Za-z0-9!_.*'()/-]*)")
_WEEK = 7 * 86400.0


class JournalSettings(StrictModel):
    """How long details stay in the journal. The list of rollbacks, and what guards read, always stays."""

    retention: Duration | None = Field(
        default=None,
        ge=_WEEK,
        description="How long events, messages and decisions stay after the end, at least 7d; older ones move to "
        "`archive`. Default: forever",
    )
    archive: str | None = Field(
        default=None, description="Absolute path of a directory, or s3://bucket/prefix, accessed through `aws`"
    )

    @field_validator("archive")
    @classmethod
    def _is_a_store(cls, value: str | None) -> str | None:
        if value is not None and not re.match("/.", value) and not _BUCKET.fullmatch(value):
            raise ValueError(f"{value!r} is neither the absolute path of a directory nor s3://bucket/prefix")
        return value

    @model_validator(mode="after")
    def _has_both(self) -> JournalSettings:
        if (self.retention is None) != (self.archive is None):
            raise ValueError("set both `retention` and `archive`: nothing is deleted that is not archived")
        return self

    @property
    def bucket(self) -> tuple[str, str] | None:
        """Bucket and prefix; None for a directory."""
        found = _BUCKET.fullmatch(self.archive or "")
        return (found[1], found[2]) if found else None
