"""What was kept and what was not, with the hash of every file: written last, so what has one is whole."""

from __future__ import annotations

import hashlib
import re
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from responder.backends.alertmanager.alerts import Timestamp
from responder.config.sizes import format_size

MANIFEST, BEGUN = "manifest.json", "begun.json"
FORMAT: Literal["rollback-responder/evidence/1"] = "rollback-responder/evidence/1"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class Where(NamedTuple):
    """The place of one execution's evidence within its store. Both parts are plain names."""

    deployment: str
    id: str


def where(deployment_id: str, evidence_id: str) -> Where:
    """Deployments are named by whoever tells of them: what is no plain name is made one, and stays told apart."""
    return Where(plain(deployment_id or "no-deployment"), plain(evidence_id))


def plain(text: str) -> str:
    """A file name for any text: no separators, no dots in front, not too long."""
    if is_plain(text):
        return text
    shown = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:150]
    return f"{shown or 'x'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def is_plain(text: str) -> bool:
    return _PLAIN.fullmatch(text) is not None


class KeptFile(BaseModel):
    """One file, as it lies in the store: packed with gzip. `sha256` and `bytes` are of that."""

    model_config = ConfigDict(frozen=True)

    name: str
    origin: str
    sha256: str
    bytes: int
    unpacked_bytes: int
    skipped_bytes: int = 0  # passed over before the end that is kept
    cut_off: str = ""  # why reading it ended before its end
    redacted: int = 0


class Missing(BaseModel):
    """Something that should be here, and why it is not."""

    model_config = ConfigDict(frozen=True)

    origin: str
    reason: str


class Manifest(BaseModel):
    """Everything about what was kept."""

    model_config = ConfigDict(frozen=True)

    format: Literal["rollback-responder/evidence/1"] = FORMAT
    id: str
    execution: str | None
    service: str
    environment: str
    policy: str
    deployment_id: str
    reason: str
    kept_on: str  # the host of the responder that kept it
    logs_since: Timestamp
    began_at: Timestamp
    ended_at: Timestamp
    location: str
    files: tuple[KeptFile, ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def seconds(self) -> float:
        return (self.ended_at - self.began_at).total_seconds()

    def summary(self) -> str:
        """In a sentence, for history."""
        redacted = sum(file.redacted for file in self.files)
        parts = [f"{len(self.files)} files, {format_size(self.bytes)}, in {self.seconds:.1f} s"]
        parts += [f"{redacted} secrets taken out"] if redacted else []
        cut = [f"{file.origin} ({file.cut_off})" for file in self.files if file.cut_off]
        gone = [f"{gap.origin} ({gap.reason})" for gap in self.missing]
        for what, items in (("cut off", cut), ("missing", gone)):
            parts += (
                [f"{what}: {', '.join(items[:5])}{f' and {len(items) - 5} more' if len(items) > 5 else ''}"]
                if items
                else []
            )
        return "; ".join(parts)
