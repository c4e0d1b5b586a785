"""The plan for each store: what it can still change, and what remains for people and for the apps."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from responder.backends.app_stores.app_store_client import AppStore
from responder.backends.app_stores.google_play_client import GooglePlay
from responder.backends.connections import Connections
from responder.backends.host.client import Local
from responder.cli.main import main
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Gate, StrategyPlan
from responder.rollback.strategies.frontend import Frontend
from responder.rollback.version_change import VersionChange
from tests.cdns.wire import Response, serving
from tests.stores import FakeAppStore, FakePlay, app_store, feeds, google_play
from tests.stores.google_play import Release, release
from tests.stores.keys import ISSUER, KEY_ID, apple_key, pem, service_account
from tests.stores.straight import StraightAppStore, StraightPlay

TARGET = VersionChange(service="shop", environment="production", from_version="2", to_version="1", execution="e1")
ANDROID = {"google_play": {"package": google_play.APP}}
IOS = {"app_store": {"app": app_store.APP}}
FULL = (release(42, "2", "completed"),)
STAGED = (release(41, "1", "completed"), release(42, "2", "inProgress", 0.2))


async def drafted(options: dict[str, Any], *clients: Any, target: VersionChange = TARGET) -> StrategyPlan:
    class Known(Connections):
        async def to(self, kind: Any) -> Any:
            return next(client for client in clients if isinstance(client, kind))

    try:
        return await Frontend.model_validate(options).plan(Gateway(Known(), retry_every=0.0), target)
    finally:
        for client in clients:
            await client.close()


async def android(*releases: Release, target: VersionChange = TARGET, first: bool = False, **more: Any) -> StrategyPlan:
    fake = FakePlay(*releases)
    fake.full = [] if first else fake.full
    draft = await drafted({"android": {**ANDROID, **more}}, StraightPlay(fake), target=target)
    assert len(fake.commits) == 1  # a plan only reads
    return draft


def moved(draft: StrategyPlan) -> list[tuple[Any, Any]]:
    return [(step.before, step.after) for step in draft.steps if isinstance(step, Change)]


# --- Android
FALLEN = ({**release(41, "1", "halted", 0.5)}, release(42, "2", "completed"))
NAMED = ({**release(42, "", "completed"), "name": "release-2"},)
SPLIT = ({**release(142, "2", "completed"), "versionCodes": ["42", "142"]},)
COMPLETED: Any = {"status": "completed"}
STAGED_AT: Any = {"status": "inProgress", "userFraction": 0.2}
HALTED_AT: Any = {"status": "halted", "userFraction": 0.2}


@pytest.mark.parametrize(
    ("releases", "more", "expected", "to"),
    [
        (STAGED, {}, {"42": STAGED_AT, "41": COMPLETED}, {"42": HALTED_AT, "41": COMPLETED}),
        (FULL, {}, {"42": COMPLETED}, {"42": {"status": "halted"}}),
        (
            FALLEN,
            {},
            {"42": COMPLETED, "41": {"status": "halted", "userFraction": 0.5}},
            {"42": {"status": "halted"}, "41": {"status": "inProgress", "userFraction": 0.5}},
        ),
        (NAMED, {"name": "release-{version}"}, {"42": COMPLETED}, {"42": {"status": "halted"}}),
        (SPLIT, {}, {"142": COMPLETED}, {"142": {"status": "halted"}}),
    ],
    ids=["staged", "full", "its share back", "by its name", "several codes"],
)
async def test_a_release_is_halted(releases: Any, more: Any, expected: Any, to: Any) -> None:
    draft = await android(*releases, **more)
    assert moved(draft) == [(expected, to)]
    (mitigation,) = draft.mitigations
    assert (mitigation.platform, mitigation.blocked_versions) == ("android", ("2",))
    assert f"with a versionCode above {max(expected, key=int)}: users of 2 get no lower one" in mitigation.remains


async def test_the_artifact_can_contain_the_version_code() -> None:
    target = TARGET.model_copy(
        update={"from_artifacts": {"android": "versionCode=42"}, "artifacts": {"android": "sha256=ab versionCode=41"}}
    )
    unnamed = tuple({**release, "name": "another"} for release in STAGED)
    assert [set(before) for before, _ in moved(await android(*unnamed, target=target))] == [{"42", "41"}]
    bare = target.model_copy(update={"from_artifacts": {"android": "42"}, "artifacts": {}})
    assert len(moved(await android(*unnamed, target=bare))) == 1
    for silent in ("sha256:abc", "versionCode=42b", "minVersionCode=42"):
        other = target.model_copy(update={"from_artifacts": {"android": silent}})
        with pytest.raises(StepFailed, match="report its versionCode with the deployment, or set `name`"):
            await android(*unnamed, target=other)
        assert len(moved(await android(*STAGED, target=other))) == 1  # by its name


async def test_documents_for_apps_change_with_the_rollback() -> None:
    draft = await android(*FULL, min_version="{version}", kill_switches={"checkout_v3": False})
    (mitigation,) = draft.mitigations
    assert (mitigation.min_version, mitigation.flags) == ("1", {"checkout_v3": False})
    assert draft.notes == ("users of 2 keep it; all others get the previous release, which the track "
                           "does not list",)  # fmt: skip


@pytest.mark.parametrize(
    ("releases", "message"),
    [
        (
            (release(41, "1", "completed"),),
            "the reported version is 2, but it is not on it; it lists 41 (1) (41, completed)",
        ),
        ((), "it lists nothing; report its versionCode with the deployment, or set `name`"),
        ((release(42, "2", "draft"),), "is a draft there"),
        ((*FULL, release(43, "3", "inProgress", 0.1)), "43 (3) is inProgress above 42: a newer release was published"),
    ],
    ids=["another", "nothing", "draft", "a later one"],
)
async def test_a_mismatch_with_the_reported_version_fails(releases: Any, message: str) -> None:
    with pytest.raises(StepFailed) as failure:
        await android(*releases)
    assert message in str(failure.value)
    assert "nothing was changed" in str(failure.value)


@pytest.mark.parametrize("status", ["draft", "halted"])
async def test_newer_releases_without_users_are_ignored(status: str) -> None:
    assert moved(await android(*FULL, release(43, "3", status)))


async def test_the_later_of_two_builds_of_a_version_is_used() -> None:
    """Both are named 1: the first was halted and rebuilt with a higher versionCode."""
    twice = (release(40, "1", "halted", 0.5), release(41, "1", "completed"))
    assert moved(await android(*twice, release(42, "2", "inProgress", 0.2))) == [
        ({"42": STAGED_AT, "41": COMPLETED}, {"42": HALTED_AT, "41": COMPLETED})
    ]


async def test_an_already_halted_release_stays_halted() -> None:
    draft = await android(release(41, "1", "completed"), release(42, "2", "halted", 0.2))
    assert draft.steps == ()
    assert draft.notes[-1].endswith("is already halted")
    assert draft.mitigations


async def test_a_release_that_cannot_be_halted_is_left_to_a_human() -> None:
    draft = await android(*FULL, first=True)
    assert draft.steps == ()
    assert draft.notes[0].startswith("Google Play refuses to halt 2, so it was not changed: ")
    assert "The first release of a track cannot be halted." in draft.notes[0]
    assert draft.mitigations[0].remains.endswith("halt its release in the Play Console, if possible")


@pytest.mark.parametrize("right", ["view", "release"])
async def test_missing_permissions_are_reported_and_block_no_other_platform(right: str) -> None:
    fake, apple = FakePlay(*FULL), FakeAppStore()
    fake.rights -= {right}
    draft = await drafted({"android": ANDROID, "ios": IOS}, StraightPlay(fake), StraightAppStore(apple))
    assert moved(draft) == [("ACTIVE", "PAUSED")]
    assert "so it was not changed: Google Play refuses" in draft.notes[0]
    assert "halt its release in the Play Console" in draft.mitigations[0].remains


async def test_an_unavailable_store_blocks_no_other_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("responder.rollback.strategies.frontend.android.PLANNED_WITHIN", 0.2)
    monkeypatch.setattr("responder.rollback.strategies.frontend.ios.PLANNED_WITHIN", 0.2)
    play, apple = StraightPlay(FakePlay(*FULL)), StraightAppStore(FakeAppStore())
    play._paused_until = apple._paused_until = 1e12
    draft = await drafted({"android": ANDROID, "ios": IOS}, play, apple)
    assert draft.steps == ()
    assert [note.partition(" could not be read")[0] for note in draft.notes] == ["Google Play", "App Store Connect"]
    assert [mitigation.platform for mitigation in draft.mitigations] == ["android", "ios"]


async def test_platforms_are_read_concurrently(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two unavailable stores delay the site by one wait, not two; the first of two errors is reported."""
    play, apple, both = StraightPlay(FakePlay(*FULL)), StraightAppStore(FakeAppStore()), asyncio.Barrier(2)

    def together(read: Any) -> Any:
        async def reading(*args: Any) -> Any:
            async with asyncio.timeout(60):
                await both.wait()
            return await read(*args)

        return reading

    for client in (play, apple):
        monkeypatch.setattr(client, "read", together(client.read))
    draft = await drafted({"android": ANDROID, "ios": IOS}, play, apple)
    assert [step.before for step in draft.steps if isinstance(step, Change)] == [{"42": COMPLETED}, "ACTIVE"]
    with pytest.raises(StepFailed, match="track production of"):
        gone = TARGET.model_copy(update={"from_version": "7"})
        clients = StraightPlay(FakePlay(*FULL)), StraightAppStore(FakeAppStore())
        await drafted({"android": ANDROID, "ios": IOS}, *clients, target=gone)


async def test_changes_that_wait_for_review_are_noted() -> None:
    fake = FakePlay(*FULL)
    fake.demands_manual_review = True
    options = {"google_play": {"package": google_play.APP, "changes_not_sent_for_review": True}}
    draft = await drafted({"android": options}, StraightPlay(fake))
    assert "a person must send the change for review" in draft.notes[-1]


# --- iOS
@pytest.mark.parametrize(
    ("state", "changes", "note"),
    [
        ("ACTIVE", [("ACTIVE", "PAUSED")], "users who search for 2 in the App Store still get it, paused or not"),
        ("PAUSED", [], "is already paused"),
        ("COMPLETE", [], "is complete: all users get 2, and it cannot be withdrawn"),
        ("INACTIVE", [], "has not begun (READY_FOR_DISTRIBUTION): do not release 2"),
        (None, [], "2 has no phased release (READY_FOR_DISTRIBUTION): nothing to pause"),
    ],
)
async def test_a_phased_release_is_paused(state: str | None, changes: Any, note: str) -> None:
    draft = await drafted({"ios": IOS}, StraightAppStore(FakeAppStore(state)))
    assert moved(draft) == changes
    assert draft.notes[0].endswith(note)
    (mitigation,) = draft.mitigations
    assert (mitigation.platform, mitigation.blocked_versions) == ("ios", ("2",))
    assert mitigation.remains.startswith(
        "submit a version above 2 to the App Store, built from 1, and request an exped"
    )
    assert ("within 27 days: then the pause ends" in mitigation.remains) == (state == "ACTIVE")


async def test_the_store_version_can_differ_from_the_version() -> None:
    other = TARGET.model_copy(update={"from_version": "shop-2"})
    with pytest.raises(StepFailed, match="has no version shop-2 in the App Store"):
        await drafted({"ios": IOS}, StraightAppStore(FakeAppStore()), target=other)
    named = other.model_copy(update={"from_artifacts": {"ios": "version=2"}})
    draft = await drafted({"ios": IOS}, StraightAppStore(FakeAppStore()), target=named)
    assert moved(draft) == [("ACTIVE", "PAUSED")]
    assert draft.mitigations[0].blocked_versions == ("shop-2", "2"), "an app knows itself as the store does"
    configured = {**IOS, "version": "{version}"}
    assert await drafted({"ios": configured}, StraightAppStore(FakeAppStore()))


# --- desktop
async def test_a_feed_is_verified_at_its_public_url(tmp_path: Path) -> None:
    for version in "12":
        (tmp_path / version).mkdir()
        (tmp_path / version / "latest.yml").write_bytes(feeds.latest(version))
    (tmp_path / "latest.yml").write_bytes(feeds.latest("2"))
    feed = {"file": f"{tmp_path}/latest.yml", "kept": f"{tmp_path}/{{version}}", "format": "electron"}
    options = {"desktop": {"feed": feed, "urls": ["https://updates.example/latest.yml"]}}
    draft = await drafted(options, Local())
    assert [str(step) for step in draft.steps] == [
        f"update feed {tmp_path}/latest.yml: 2 → 1",
        "clients get feed 1 for 5s, within 5m",
    ]
    assert draft.mitigations == ()
    assert draft.notes[0].startswith("desktop apps that have updated to 2 keep it")
    with pytest.raises(StepFailed, match="but 3 was reported as running"):
        await drafted(options, Local(), target=TARGET.model_copy(update={"from_version": "3"}))
    with pytest.raises(StepFailed, match="keep the feed of each version there"):
        await drafted(options, Local(), target=TARGET.model_copy(update={"to_version": "0"}))


# --- all platforms
async def test_a_platform_without_the_bad_version_is_skipped(tmp_path: Path) -> None:
    """A store takes days: the web is rolled back immediately, and platforms at another version are left unchanged."""
    for version in "12":
        (tmp_path / "releases" / version).mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/2")
    web = {"local": {"root": str(tmp_path)}, "edge": {"version": ["http://127.0.0.1:1/version.json"]}}
    options = {"web": web, "android": ANDROID, "ios": IOS}
    behind = TARGET.model_copy(update={"platform_versions": {"web": "2", "android": "1", "ios": "1"}})
    apple = FakeAppStore()
    apple.answers = [Response(200, b'{"data": []}')] * 2

    def clients() -> tuple[Any, ...]:
        return Local(), StraightPlay(FakePlay(release(41, "1", "completed"))), StraightAppStore(apple)

    draft = await drafted(options, *clients(), target=behind)
    assert moved(draft) == [("2", "1")] and draft.mitigations == ()
    android, ios = draft.notes[-2:]
    assert android.startswith("android is unchanged, at 1: the track production of ")
    assert ios.startswith("ios is unchanged, at 1: the app ")
    left = {"web": web, "android": {}, "ios": IOS, "app_store_rollback": False}
    draft = await drafted(left, Local(), target=behind)
    assert moved(draft) == [("2", "1")] and draft.mitigations == (), "an unpublished version has no users"
    with pytest.raises(StepFailed, match="the reported version is 2, but it is not on it"):
        await drafted(options, *clients(), target=TARGET)  # no other report
    with pytest.raises(StepFailed, match="none of its platforms is at 2"):
        await drafted({"android": ANDROID}, *clients(), target=behind)
    # The state of the store takes precedence over the reported version, which may be old.
    stale = behind.model_copy(update={"platform_versions": {"web": "1"}})
    assert moved(await drafted({"web": web}, Local(), target=stale)) == [("2", "1")]


async def test_stores_are_unchanged_without_app_store_rollback() -> None:
    options = {"android": {"kill_switches": {"new": False}}, "ios": {}, "app_store_rollback": False}
    draft = await drafted(options)  # without a request
    assert draft.steps == ()
    assert [mitigation.platform for mitigation in draft.mitigations] == ["android", "ios"]
    remains = draft.mitigations[0].remains
    assert "a versionCode above that of 2" in remains
    assert remains.endswith("the store was not changed: halt its release in the Play Console")


async def test_an_unconfigured_store_is_unchanged() -> None:
    assert (await drafted({"android": {}})).mitigations


async def test_a_shared_cache_is_purged_for_each_platform(tmp_path: Path) -> None:
    from responder.backends.sites.cdn_client import Fastly
    from tests.cdns import FakeFastly
    from tests.cdns.straight import StraightFastly

    (tmp_path / "releases" / "1").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/2")
    for version in "12":
        (tmp_path / version).mkdir()
        (tmp_path / version / "latest.yml").write_bytes(feeds.latest(version))
    (tmp_path / "latest.yml").write_bytes(feeds.latest("2"))
    feed = {"file": f"{tmp_path}/latest.yml", "kept": f"{tmp_path}/{{version}}", "format": "electron"}
    options = {
        "web": {"local": {"root": str(tmp_path)}, "edge": {"version": ["https://shop.example/version.json"]}},
        "desktop": {"feed": feed, "urls": ["https://shop.example/latest.yml"]},
        "cdn_invalidation": {"fastly": "SVC1"},
    }
    draft = await drafted(options, Local(), StraightFastly(FakeFastly()))
    purges = [
        step.after for step in draft.steps if isinstance(step, Change) and step.resource.client is Fastly and step.after
    ]
    assert len(set(purges)) == 2
    assert len([step for step in draft.steps if isinstance(step, Gate)]) == 2


def test_every_listed_platform_needs_its_key() -> None:
    with pytest.raises(ValidationError, match="web, ios are listed, but configured: android"):
        Frontend.model_validate({"platforms": ["web", "ios"], "android": ANDROID})


# --- configuration and access
def _configured(tmp_path: Path, play: str, apple: str, **stores: Any) -> Path:
    (tmp_path / "play.json").write_text(service_account())
    (tmp_path / "apple.p8").write_text(pem(apple_key()))
    google = {"key_file": f"{tmp_path}/play.json", "url": play, "token_uri": f"{play}/token"}
    app = {"key_id": KEY_ID, "issuer_id": ISSUER, "key_file": f"{tmp_path}/apple.p8", "url": apple}
    frontend = {"strategy": "frontend", "platforms": ["android", "ios"], "android": ANDROID, "ios": IOS}
    config = {
        "state": f"sqlite:///{tmp_path}/state.db",
        "prometheus": {"url": "http://127.0.0.1:1", "timeout": "1s"},
        "alertmanager": {"urls": ["http://127.0.0.1:1"], "timeout": "1s"},
        "stores": stores or {"google_play": google, "app_store": app},
        "services": [
            {
                "name": "shop",
                "environment": "production",
                "rollback": frontend,
                "health_checks": [{"promql": "up", "above": 0}],
            }
        ],
    }
    file = tmp_path / "responder.yml"
    file.write_text(json.dumps(config))  # JSON is YAML
    return file


async def _checked(file: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    import asyncio

    await asyncio.to_thread(main, ["check", "--config", str(file), "--output", "json", *more])
    return json.loads(capsys.readouterr().out)


async def test_check_live_reports_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play, apple = FakePlay(*STAGED), FakeAppStore()
    async with serving(play.answer) as google, serving(apple.answer) as connect:
        file = _configured(tmp_path, google, connect)
        report = await _checked(file, capsys, "--live")
        assert not [finding for finding in report if "rollback" in finding["path"]]
        play.rights = {"view"}
        (tmp_path / "apple.p8").write_text("none")
        report = await _checked(file, capsys, "--live")
        found = [finding["message"] for finding in report if "services[0].rollback" in finding["path"]]
        assert "Google Play refuses " in found[0] and "(403)" in found[0]
        assert "not a private key of App Store Connect" in found[1]
    assert len(play.commits) == len(apple.states) == 1


async def test_missing_store_keys_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = await _checked(_configured(tmp_path, "http://x", "http://x", google_play=None), capsys)
    assert [(finding["message"], finding["hint"]) for finding in report] == [
        ("needs a key", "configure stores.app_store"),
        ("needs a key", "configure stores.google_play"),
    ]
    both = {"google_play": {"key_file": "/a", "key": "b"}}
    report = await _checked(_configured(tmp_path, "http://x", "http://x", **both), capsys)
    assert "needs exactly one of key, key_file" in report[0]["message"]


def test_each_store_needs_its_client() -> None:
    from responder.services.service import Service

    options = {"strategy": "frontend", "android": ANDROID, "ios": IOS}
    service = Service.model_validate(
        {
            "name": "shop",
            "environment": "production",
            "rollback": options,
            "health_checks": [{"promql": "up", "above": 0}],
        }
    )
    assert {GooglePlay, AppStore} <= service.clients
