"""Versions that only a part of the users gets: what is done with the share, and what the plan says about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from responder.backends.app_stores import feeds as of_feeds
from responder.backends.app_stores.app_store_client import AppStore
from responder.backends.app_stores.google_play_client import GooglePlay
from responder.backends.app_stores.phased_release import PhasedRelease
from responder.backends.app_stores.play_release import PlayRelease
from responder.errors import StepFailed
from tests.responder.backends.app_stores.test_platforms import ANDROID, IOS, TARGET, android, drafted, moved
from tests.stores import FakeAppStore, FakePlay, app_store, feeds, google_play
from tests.stores.google_play import release
from tests.stores.straight import StraightAppStore, StraightPlay

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
FALLEN = (release(41, "1", "halted", 0.2), release(42, "2", "completed"))


# --- Google Play
async def test_the_plan_names_the_share_of_a_good_release_that_was_never_completed() -> None:
    draft = await android(*FALLEN)
    assert moved(draft)[0][1]["41"] == {"status": "inProgress", "userFraction": 0.2}
    assert "20 % of the others get 1" in draft.notes[0]
    assert "until its rollout is increased" in draft.notes[0]
    full = await android(release(41, "1", "completed"), release(42, "2", "inProgress", 0.2))
    assert full.notes[0] == "users of 2 keep it; all others get 1"


async def test_the_bad_release_is_halted_even_if_the_good_one_cannot_be_resumed() -> None:
    fake = FakePlay(*FALLEN)
    fake.no_resume = True
    draft = await drafted({"android": ANDROID}, StraightPlay(fake))
    ((before, after),) = moved(draft)
    assert (before["41"], after["41"]) == (after["41"], {"status": "halted", "userFraction": 0.2})
    assert after["42"] == {"status": "halted"}
    assert any("refuses to resume the good release" in note for note in draft.notes)
    assert len(fake.commits) == 1


async def test_an_empty_track_is_found_by_the_live_check(play: tuple[FakePlay, GooglePlay]) -> None:
    fake, client = play
    resource = PlayRelease(package=google_play.APP)
    assert await resource.check_access(client) == []
    fake.committed_by_another()
    (problem,) = await resource.check_access(client)
    assert problem.found == "lists no release"


# --- App Store
async def test_a_key_that_may_not_pause_is_found_by_the_live_check(apple: tuple[FakeAppStore, AppStore]) -> None:
    fake, client = apple
    resource = PhasedRelease(app=app_store.APP)
    assert await resource.check_access(client) == []
    fake.role = "DEVELOPER"
    with pytest.raises(StepFailed, match=r"does not allow this request .*App Manager"):
        await resource.check_access(client)
    assert [state for _, state in fake.states] == ["ACTIVE"]


async def test_a_key_that_may_not_pause_is_found_at_planning_and_blocks_no_other_platform() -> None:
    apple, play = FakeAppStore(), FakePlay(release(42, "2", "completed"))
    apple.role = "DEVELOPER"
    draft = await drafted({"android": ANDROID, "ios": IOS}, StraightPlay(play), StraightAppStore(apple))
    assert [set(before) for before, _ in moved(draft)] == [{"42"}]
    assert any("App Store Connect refuses to pause 2, so it was not changed" in note for note in draft.notes)
    assert "pause its phased release in App Store Connect" in draft.mitigations[-1].remains
    assert apple.state == "ACTIVE"


async def test_a_phased_release_without_a_pause_left_is_unchanged() -> None:
    apple = FakeAppStore()
    apple.paused_days = 30
    draft = await drafted({"ios": IOS}, StraightAppStore(apple))
    assert draft.steps == ()
    assert "was paused for 30 days, the most that Apple allows" in draft.notes[0]


async def test_the_plan_says_what_happens_to_the_share_after_a_pause() -> None:
    draft = await drafted({"ios": IOS}, StraightAppStore(FakeAppStore()), target=TARGET)
    assert any("continues with the share of users that it has reached" in note for note in draft.notes)


# --- Sparkle
def phased(published: datetime | str, interval: Any = 86_400, more: str = "") -> bytes:
    date = published if isinstance(published, str) else format_datetime(published)
    text = f"<pubDate>{date}</pubDate><sparkle:phasedRolloutInterval>{interval}</sparkle:phasedRolloutInterval>{more}"
    return feeds.appcast("1").replace(b"<sparkle:version>", text.encode() + b"<sparkle:version>")


@pytest.mark.parametrize(
    ("feed", "share"),
    [
        (feeds.appcast("1"), ""),
        (phased(NOW), "14 %"),
        (phased(NOW - timedelta(days=2, hours=1)), "43 %"),
        (phased(NOW - timedelta(days=6)), ""),
        (phased(NOW - timedelta(days=600)), ""),
        (phased(NOW + timedelta(hours=1)), "0 %"),
        (phased((NOW - timedelta(days=2)).replace(tzinfo=None)), "43 %"),
        (phased(NOW, more="<sparkle:criticalUpdate/>"), ""),
        (phased(NOW, interval=0), ""),
        (phased(NOW, interval="a day"), ""),
        (phased("yesterday"), ""),
        (phased("").replace(b"<pubDate></pubDate>", b""), ""),
    ],
)
def test_the_share_of_a_phased_rollout_of_sparkle(feed: bytes, share: str) -> None:
    """One of seven groups of users follows after each interval since the date of the item."""
    assert of_feeds.version_in("sparkle", feed) == "1"
    assert of_feeds.staged_for("sparkle", feed, NOW) == share
