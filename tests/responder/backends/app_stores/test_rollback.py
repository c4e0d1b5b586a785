"""From the journal to the end: an irreversible store release is never reported as rolled back."""

from __future__ import annotations

from pathlib import Path

from responder.journal import Database
from responder.testing.faults import Point
from tests.journals import journal, state  # noqa: F401
from tests.responder.rollback.crash import stores
from tests.responder.rollback.crash.drill import CrashDrill


async def test_an_app_ends_as_mitigated(journal: Database, tmp_path: Path) -> None:  # noqa: F811
    drill = CrashDrill(stores.apps(tmp_path), journal)
    await drill.accept()
    ended = await drill.run(Point())
    await stores_closed(drill)
    assert ended.outcome == "mitigated"
    assert ended.reason.startswith(
        "remaining work: publish 1 again on Google Play, rebuilt with a versionCode above 42"
    )
    assert "submit a version above 2 to the App Store" in ended.reason
    assert ended.plan is not None
    mitigations = {mitigation.platform: mitigation for mitigation in ended.plan.mitigations}
    assert set(mitigations) == {"android", "ios"}  # a desktop feed is really restored
    assert (mitigations["android"].blocked_versions, mitigations["android"].min_version) == (("2",), "1")
    assert mitigations["android"].flags == {"new": False}
    assert await drill.status_of("2") == "bad"


async def test_a_desktop_app_is_rolled_back(journal: Database, tmp_path: Path) -> None:  # noqa: F811
    drill = CrashDrill(stores.desktop(tmp_path), journal)
    await drill.accept()
    ended = await drill.run(Point())
    await stores_closed(drill)
    assert ended.outcome == "succeeded"


async def stores_closed(drill: CrashDrill) -> None:
    if drill.stage.leave:
        await drill.stage.leave()
