"""Releases, phased releases and feeds keep the laws of resources, against stores with their own rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from responder.backends.app_stores.app_store_client import AppStore
from responder.backends.app_stores.feeds import version_in
from responder.backends.app_stores.google_play_client import GooglePlay
from responder.backends.app_stores.phased_release import PhasedRelease
from responder.backends.app_stores.play_release import PlayRelease
from responder.backends.app_stores.update_feed import UpdateFeed, UpdateFeedObject
from responder.backends.host.client import Local
from responder.errors import Drift, StepFailed, Unavailable
from responder.transport.aws import Aws
from tests.cdns import Amazon
from tests.cdns.straight import StraightAws
from tests.contents.bucket import contents, furnish
from tests.contents.files import tree
from tests.responder.backends.resource_law import has_converged, keeps_the_laws
from tests.stores import FakeAppStore, FakePlay, app_store, feeds, google_play
from tests.stores.google_play import release

Play = tuple[FakePlay, GooglePlay]
Apple = tuple[FakeAppStore, AppStore]
RELEASE = PlayRelease(package=google_play.APP, codes=("42", "41"))
PHASED = PhasedRelease(app=app_store.APP, version="2")
FULL = {"status": "completed"}


def staged(status: str, fraction: float = 0.2) -> dict[str, Any]:
    return {"status": status, "userFraction": fraction}


async def test_the_laws_of_a_release(play: Play) -> None:
    fake, client = play
    before, to = {"42": staged("inProgress"), "41": FULL}, {"42": staged("halted"), "41": FULL}
    stranger = {"42": staged("inProgress", 0.5), "41": FULL}
    more: dict[str, Any] = {"state": lambda: google_play.contents(fake), "version": ["/releases/42/status"]}
    more["version"].append("/releases/42/userFraction")
    await keeps_the_laws(RELEASE, client, expected=before, to=to, stranger=stranger, **more)
    assert RELEASE.describe(to) == "42 halted for 20 %, 41 completed"


async def test_the_laws_of_a_phased_release(apple: Apple) -> None:
    fake, client = apple
    more: dict[str, Any] = {"state": lambda: app_store.contents(fake), "version": ["/state"]}
    await keeps_the_laws(PHASED, client, expected="ACTIVE", to="PAUSED", stranger=None, **more)
    with pytest.raises(StepFailed, match="cannot be set to COMPLETE"):
        await PHASED.write(client, "COMPLETE", expected="ACTIVE")


async def test_a_completed_phased_release_is_not_changed(apple: Apple) -> None:
    fake, client = apple
    fake.set("COMPLETE")
    with pytest.raises(Drift):
        await PHASED.write(client, "PAUSED", expected="ACTIVE")
    assert fake.state == "COMPLETE"


async def test_a_full_release_is_halted_and_resumed_next_to_an_older_one() -> None:
    from tests.stores.straight import StraightPlay

    fake = FakePlay(release(42, "2", "completed"))
    client = StraightPlay(fake)
    resource = RELEASE.model_copy(update={"codes": ("42",)})
    await resource.write(client, {"42": {"status": "halted"}}, expected={"42": FULL})
    assert fake.shares() == {"42": ("halted", None), "41": ("completed", None)}
    assert await has_converged(resource, client, {"42": {"status": "halted"}})
    await resource.write(client, {"42": FULL}, expected={"42": {"status": "halted"}})
    assert fake.shares() == {"42": ("completed", None)}
    await client.close()


async def test_a_change_that_is_not_visible_yet_has_not_converged(play: Play, apple: Apple) -> None:
    for fake, client, resource, before, to in (
        (*play, RELEASE, {"42": staged("inProgress")}, {"42": staged("halted")}),
        (*apple, PHASED, "ACTIVE", "PAUSED"),
    ):
        fake.takes = 1e6
        for _ in range(2):  # a repeated write is harmless
            with pytest.raises(Unavailable):
                await resource.write(client, to, expected=before)
        fake.takes = 0.0
        await resource.write(client, to, expected=before)
        assert await has_converged(resource, client, to)
    assert len(play[0].commits) == 2
    assert len(apple[0].states) == 2


async def test_check_access_finds_missing_permissions_and_changes_nothing(play: Play) -> None:
    fake, client = play
    await RELEASE.model_copy(update={"codes": ()}).check_access(client)
    fake.rights = {"view"}
    with pytest.raises(StepFailed, match="does not have permission"):
        await RELEASE.model_copy(update={"codes": ()}).check_access(client)
    assert len(fake.commits) == 1


# --- feeds
KEPT = {
    "sparkle": ("appcast.xml", feeds.appcast),
    "squirrel": ("RELEASES", feeds.releases),
    "electron": ("latest.yml", feeds.latest),
}


def _feed(directory: Path, form: Any, *kept: str, live: str = "2") -> UpdateFeed:
    name, made = KEPT[form]
    for version in kept:
        (directory / version).mkdir()
        (directory / version / name).write_bytes(made(version))
        (directory / version / "signature").write_text(f"of {version}")
    (directory / "live").mkdir()
    (directory / "live" / name).write_bytes(made(live))
    (directory / "live" / "signature").write_text(f"of {live}")
    kept_at = f"{directory}/{{version}}"
    return UpdateFeed(file=directory / "live" / name, kept=kept_at, format=form, beside=("signature",))


@pytest.mark.parametrize("form", KEPT)
async def test_the_laws_of_a_feed(form: str, tmp_path: Path) -> None:
    resource = _feed(tmp_path, form, "1", "2", "3")
    live = resource.file.name
    more: dict[str, Any] = {"version": [f"/live~1{live}/content", "/live~1signature/content"]}
    more["may_differ"] = dict.fromkeys((f"/live~1{live}/changed", "/live~1signature/changed"), "they are written anew")
    await keeps_the_laws(resource, Local(), expected="2", to="1", stranger="3", state=lambda: tree(tmp_path), **more)
    await resource.write(Local(), "1", expected="2")
    assert (
        resource.file.read_bytes() == (tmp_path / "1" / resource.file.name).read_bytes()
    )  # a signature counts every byte
    assert resource.file.with_name("signature").read_text() == "of 1"


async def test_the_laws_of_a_feed_in_s3() -> None:
    amazon = Amazon()
    for version in "123":
        amazon.s3.put(f"shop/kept/{version}/latest.yml", feeds.latest(version))
    amazon.s3.put("shop/updates/latest.yml", feeds.latest("2"), content_type="text/yaml", cache_control="no-cache")
    aws = StraightAws(amazon)
    locations = {"object": "s3://shop/updates/latest.yml", "kept": "s3://shop/kept/{version}"}
    resource = UpdateFeedObject(format="electron", **locations)  # type: ignore[arg-type]
    more: dict[str, Any] = {"state": amazon.contents, "version": ["/s3/objects/shop~1updates~1latest.yml/body"]}
    await keeps_the_laws(resource, aws, expected="2", to="1", stranger="3", **more)
    known, writes = amazon.answer, list[str]()

    def answer(request: Any) -> Any:
        if request.method == "PUT" and not writes:
            writes.append(request.path)
            amazon.s3.put("shop/updates/latest.yml", feeds.latest("3"))
        return known(request)

    amazon.answer = answer  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="was changed at the same time"):
        await resource.write(aws, "1", expected="2")
    with pytest.raises(Drift):
        await resource.write(aws, "1", expected="2")
    await aws.close()


async def test_the_laws_of_a_feed_on_moto(moto_aws: Aws) -> None:
    await moto_aws.write("s3", "create_bucket", Bucket="laws-of-feed")
    for version in "123":
        target = {"Bucket": "laws-of-feed", "Key": f"kept/{version}/appcast.xml"}
        await moto_aws.write("s3", "put_object", Body=feeds.appcast(version), **target)
    live = {"Bucket": "laws-of-feed", "Key": "appcast.xml", "CacheControl": "no-cache"}
    await moto_aws.write("s3", "put_object", Body=feeds.appcast("2"), **live)
    locations = {"object": "s3://laws-of-feed/appcast.xml", "kept": "s3://laws-of-feed/kept/{version}"}
    resource = UpdateFeedObject(format="sparkle", **locations)  # type: ignore[arg-type]
    await furnish(moto_aws, "laws-of-feed", "appcast.xml")
    more: dict[str, Any] = {"state": lambda: contents(moto_aws, "laws-of-feed"), "version": ["/appcast.xml/body"]}
    more["may_differ"] = {"/appcast.xml/LastModified": "it is written anew"}
    await keeps_the_laws(resource, moto_aws, expected="2", to="1", stranger="3", **more)
    head = await moto_aws.read("s3", "head_object", Bucket="laws-of-feed", Key="appcast.xml")
    assert head["CacheControl"] == "no-cache"


async def test_the_live_feed_is_kept_unless_it_is_kept_already(tmp_path: Path) -> None:
    resource = _feed(tmp_path, "sparkle", "1")
    await resource.write(Local(), "1", expected="2")
    assert (tmp_path / "2" / "signature").read_text() == "of 2"
    await resource.write(Local(), "2", expected="1")
    assert await resource.converged(Local(), "2")


async def test_a_feed_without_its_signature_has_not_converged(tmp_path: Path) -> None:
    resource = _feed(tmp_path, "sparkle", "1", "2")
    (tmp_path / "live" / "signature").write_text("of 1")  # a crash between the two
    assert await resource.read(Local()) == "2"
    assert not await resource.converged(Local(), "2")
    await resource.write(Local(), "1", expected="2")
    assert await resource.converged(Local(), "1")


async def test_a_missing_or_wrong_kept_feed_fails(tmp_path: Path) -> None:
    resource = _feed(tmp_path, "sparkle", "1", "2")
    with pytest.raises(StepFailed, match=r"/0/signature does not exist: keep the feed of each version there"):
        await resource.preflight(Local(), "0")
    assert await resource.preflight(Local(), "1") == ()
    (tmp_path / "2" / "appcast.xml").write_bytes(feeds.appcast("1", "2"))
    (note,) = await resource.preflight(Local(), "1")
    assert note.startswith("the feed kept for 2 differs from the live one")
    (tmp_path / "1" / "appcast.xml").write_bytes(feeds.appcast("1", "2"))
    with pytest.raises(StepFailed, match="offers 2, not 1"):
        await resource.write(Local(), "1", expected="2")
    for outside in ("..", "a/b"):
        with pytest.raises(StepFailed):
            await resource.write(Local(), outside, expected="2")
    assert await resource.read(Local()) == "2"


async def test_an_invalid_live_feed_is_reported(tmp_path: Path) -> None:
    resource = _feed(tmp_path, "sparkle", "1", "2")
    resource.file.write_text("<html>")
    found = await resource.read(Local())
    assert str(found).startswith("other: it is not a feed in sparkle format")
    with pytest.raises(Drift):
        await resource.write(Local(), "1", expected="2")
    resource.file.unlink()
    assert await resource.read(Local()) is None


OLD = b"""<rss xmlns:sparkle="http://www.andymatuschak.org/xml-namespaces/sparkle"><channel><item>
<enclosure sparkle:version="7" sparkle:shortVersionString="1.7"/></item></channel></rss>"""
BOMB = b'<!DOCTYPE rss [<!ENTITY a "aaaa">]><rss><channel>&a;</channel></rss>'


@pytest.mark.parametrize(
    ("form", "feed", "version"),
    [
        ("sparkle", feeds.appcast("1", "3", "2", beta="4"), "3"),
        ("sparkle", OLD, "1.7"),
        ("squirrel", feeds.releases("1.9.0", "1.10.0", "1.10.0-beta1"), "1.10.0"),
        ("electron", feeds.latest("2.0.1"), "2.0.1"),
    ],
)
def test_the_version_of_a_feed_is_read(form: Any, feed: bytes, version: str) -> None:
    assert version_in(form, feed) == version


@pytest.mark.parametrize(
    ("form", "feed", "message"),
    [
        ("sparkle", BOMB, "declares entities"),
        ("sparkle", BOMB.decode().encode("utf-16"), "not a feed in sparkle"),
        ("sparkle", b"<rss/>", "that offers no version"),
        ("sparkle", feeds.appcast("1") + b" " * (5 << 20), "expected at most 4194304"),
        ("squirrel", b"A1 not-a-release", "that offers no version"),
        ("electron", b"version: 2.0", "that offers no version"),  # a number: it is unknown whether it was 2.00
        ("electron", b"[", "not a feed in electron format"),
        ("electron", b"- 1", "not a feed in electron format"),
    ],
)
def test_an_invalid_feed_is_refused(form: Any, feed: bytes, message: str) -> None:
    with pytest.raises(StepFailed, match=message):
        version_in(form, feed)


@pytest.mark.parametrize(
    ("form", "feed", "share"),
    [
        ("electron", "version: 1.0.0\nstagingPercentage: 20\n", "20 %"),
        ("electron", "version: 1.0.0\nstagingPercentage: 100\n", ""),
        ("electron", "version: 1.0.0\n", ""),
        ("squirrel", f"{'0' * 40} app-1.0.0-full.nupkg 7 # 5%\n{'0' * 40} app-0.9.0-full.nupkg 7 # 1%\n", "5 %"),
        ("squirrel", f"{'0' * 40} app-1.0.0-full.nupkg 7\n{'0' * 40} app-0.9.0-full.nupkg 7 # 1%\n", ""),
    ],
)
async def test_a_good_feed_that_was_kept_half_rolled_out_is_named(
    form: Any, feed: str, share: str, tmp_path: Path
) -> None:
    (tmp_path / "1.0.0").mkdir()
    for file in (tmp_path / "1.0.0" / "feed", tmp_path / "feed"):
        file.write_text(feed)
    resource = UpdateFeed(file=tmp_path / "feed", kept=f"{tmp_path}/{{version}}", format=form)
    notes = await resource.preflight(Local(), "1.0.0")
    assert [share in note for note in notes] == ([True] if share else [])
