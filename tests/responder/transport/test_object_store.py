"""Errors of a directory name the path that has to be corrected."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.errors import StepFailed
from responder.transport.object_store import DirectoryStore, one_block


async def test_a_base_that_is_a_file_is_named(tmp_path: Path) -> None:
    base = tmp_path / "evidence"
    base.write_text("a file")
    with pytest.raises(StepFailed, match=f"^{base}: File exists$"):
        await DirectoryStore(base).put("deploy-1/exec-1/begun.json", one_block(b"{}"))


async def test_a_base_that_cannot_be_created_is_named() -> None:
    with pytest.raises(StepFailed, match=r"^/proc/evidence does not exist$"):
        await DirectoryStore(Path("/proc/evidence")).put("deploy-1/exec-1/begun.json", one_block(b"{}"))
