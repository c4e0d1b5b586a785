"""The published crash harness passes for a sound strategy, and finds resources that are not crash-safe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from responder.backends.host.client import Local
from responder.backends.host.release import CurrentRelease
from responder.services.service import Service
from responder.testing.crash import LAWS, CrashCase, Drills, freezes_on_drift, plans_without_changes

Law = Callable[[Drills], Awaitable[object]]


@asynccontextmanager
async def shop(directory: Path) -> AsyncIterator[CrashCase]:
    """A release directory at version 2."""
    root = directory / "shop"
    for version in ("1", "2", "hotfix"):
        (root / "releases" / version).mkdir(parents=True)
    current = root / "current"
    current.symlink_to("releases/2")

    async def interfere() -> None:
        current.unlink()
        current.symlink_to("releases/hotfix")

    service = {
        "name": "shop",
        "environment": "test",
        "rollback": {"strategy": "immediate", "release": {"root": str(root)}},
        "health_checks": [{"http": "http://shop/health"}],
    }
    yield CrashCase(
        service=Service.model_validate(service), from_version="2", to_version="1", clients={Local: Local()},
        state=lambda: current.readlink().name, rolled_back="1", interfere=interfere,
    )  # fmt: skip


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
async def test_a_release_directory_keeps_every_law(law: Law, tmp_path: Path) -> None:
    await law(Drills(shop, tmp_path))


async def test_a_plan_that_changes_something_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def points(self: CurrentRelease, client: Local, value: str | None) -> tuple[str, ...]:
        await client.switch_link(self.root / "current", self.root / "releases" / str(value))
        return ()

    monkeypatch.setattr(CurrentRelease, "preflight", points)
    with pytest.raises(AssertionError, match="after planning the outside differs:\n/: '2' → '1'"):
        await plans_without_changes(Drills(shop, tmp_path))


async def test_a_resource_that_does_not_notice_drift_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CurrentRelease, "equivalent", lambda self, found, value: True)
    with pytest.raises(AssertionError, match="after interference the execution is closed; expected stuck"):
        await freezes_on_drift(Drills(shop, tmp_path))
