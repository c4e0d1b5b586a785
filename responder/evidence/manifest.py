"""The manifest: what was collected, with the hash of each file, and what is missing. It is written last."""

from __future__ import annotations

from typing import Literal, NamedTuple

from foundation.models import FrozenModel
from responder.backends.alertmanager.alerts import Timestamp
from responder.config.private_files import plain
from responder.config.sizes import format_size
from responder.config.text import counted

MANIFEST, BEGUN = "manifest.json", "begun.json"
FORMAT: Literal["rollback-responder/evidence/1"] = "rollback-responder/evidence/1"


class Where(NamedTuple):
    """The folder of one execution in its store. Both parts are plain names."""

    deployment: str
    id: str


def where(deployment_id: str, evidence_id: str) -> Where:
    """The folder for these IDs. Pipelines choose the deployment ID, so it is converted to a unique plain name."""
    return Where(plain(deployment_id or "no-deployment"), plain(evidence_id))


class KeptFile(FrozenModel):
    """One stored file, compressed with gzip. `sha256` and `bytes` refer to the compressed file."""

    name: str
    origin: str
    sha256: str
    bytes: int
    unpacked_bytes: int
    skipped_bytes: int = 0  # at the start, because only the end is kept
    cut_off: str = ""  # why reading stopped early
    redacted: int = 0


class MissingFile(FrozenModel):
    """Something that could not be collected, and why."""

    origin: str
    reason: str


class EvidenceManifest(FrozenModel):
    """Everything about one collection."""

    format: Literal["rollback-responder/evidence/1"] = FORMAT
    id: str
    execution: str | None
    service: str
    environment: str
    policy: str
    deployment_id: str
    reason: str
    kept_on: str  # the host of the responder
    logs_since: Timestamp
    began_at: Timestamp
    ended_at: Timestamp
    location: str
    files: tuple[KeptFile, ...] = ()
    missing: tuple[MissingFile, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def seconds(self) -> float:
        return (self.ended_at - self.began_at).total_seconds()

    def summary(self) -> str:
        """One line for the history."""
        redacted = sum(file.redacted for file in self.files)
        parts = [f"{counted(len(self.files), 'file')}, {format_size(self.bytes)}, in {self.seconds:.1f} s"]
        parts += [f"{counted(redacted, 'secret')} redacted"] if redacted else []
        cut = [f"{file.origin} ({file.cut_off})" for file in self.files if file.cut_off]
        gone = [f"{gap.origin} ({gap.reason})" for gap in self.missing]
        for what, items in (("cut off", cut), ("missing", gone)):
            parts += (
                [f"{what}: {', '.join(items[:5])}{f' and {len(items) - 5} more' if len(items) > 5 else ''}"]
                if items
                else []
            )
        return "; ".join(parts)
