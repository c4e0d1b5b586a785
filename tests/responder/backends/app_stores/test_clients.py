"""Clients authenticate, respect rate limits, and report refusals with a fix."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import jwt
import pytest

from responder.backends.app_stores.app_store_client import AppStore, Phased
from responder.backends.app_stores.google_play_client import GooglePlay, Release
from responder.backends.connections import Connections, missing_package
from responder.errors import LeaseLost, StepFailed, Unavailable
from responder.transport import json_api
from responder.transport.acting import acting
from responder.transport.json_api import ApiRefused
from tests.cdns.wire import Response, serving
from tests.stores import FakeAppStore, FakePlay, app_store, google_play
from tests.stores.google_play import refused, release
from tests.stores.keys import ISSUER, KEY_ID, app_store_settings, apple_key, play_settings, service_account

Play = tuple[FakePlay, GooglePlay]
Apple = tuple[FakeAppStore, AppStore]
TRACK = (google_play.APP, "production")
SEEN = (app_store.APP, "IOS", "2")


def halted(found: list[Release]) -> list[Release]:
    return [*found[:-1], {**found[-1], "status": "halted"}]


# --- Google Play
async def test_a_change_is_validated_and_committed_in_one_edit(play: Play) -> None:
    fake, client = play
    before = fake.releases
    await client.write(*TRACK, halted)
    assert fake.requests == [
        "POST /token",
        "POST ",
        "GET /1/tracks/production",
        "PUT /1/tracks/production",
        "POST /1:validate",
        "POST /1:commit",
    ]
    assert fake.releases == halted(before)  # notes, names and all other releases are unchanged


async def test_a_read_and_a_dry_run_leave_no_edit(play: Play) -> None:
    fake, client = play
    assert await client.read(*TRACK) == fake.releases
    await client.validate_change(*TRACK, halted)
    assert len(fake.commits) == 1
    assert all(edit.gone for edit in fake.edits.values())
    assert not any("commit" in request for request in fake.requests)


@pytest.mark.parametrize("moment", ["GET", "PUT", ":validate", ":commit"])
async def test_a_concurrent_commit_is_retried(moment: str, play: Play) -> None:
    fake, _ = play
    known, done = fake.answer, list[str]()

    def answer(request: Any) -> Any:
        if moment in f"{request.method} {request.path}" and not done:
            done.append(moment)
            fake.committed_by_another(release(42, "2", "inProgress", 0.5))
        return known(request)

    fake.answer = answer  # type: ignore[method-assign]
    async with serving(lambda request: fake.answer(request)) as url:
        other = await GooglePlay.connect(play_settings(url))
        with pytest.raises(Unavailable, match="another edit replaced ours"):
            await other.write(*TRACK, halted)
        assert fake.shares() == {"42": ("inProgress", 0.5)}
        await other.write(*TRACK, halted)
        assert fake.shares()["42"] == ("halted", 0.5)
        await other.close()


async def test_concurrent_changes_do_not_end_each_others_edits(play: Play) -> None:
    import asyncio

    fake, client = play
    assert await asyncio.gather(*(client.read(*TRACK) for _ in range(5))) == [fake.releases] * 5


async def test_nothing_is_committed_without_the_lease(play: Play) -> None:
    fake, client = play

    def lapsed() -> None:
        raise LeaseLost("the lease has run out")

    token = acting.set(lapsed)
    try:
        with pytest.raises(LeaseLost):
            await client.write(*TRACK, halted)
    finally:
        acting.reset(token)
    assert len(fake.commits) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: [{**found[0], "userFraction": 0.5}], "userFraction must be"),
        (lambda found: [{**found[0], "status": "inProgress"}], "needs a userFraction"),
        (lambda found: [{**found[0], "status": "stopped"}], "Invalid value at 'status'"),
        (
            lambda found: [{**release, "status": "completed", "userFraction": None} for release in found],
            "at most one completed",
        ),
    ],
)
async def test_a_change_that_the_store_refuses_is_reported(change: Any, message: str, play: Play) -> None:
    fake, client = play
    with pytest.raises(ApiRefused, match=message):
        await client.write(*TRACK, change)
    assert len(fake.commits) == 1


async def test_a_missing_track_or_app_is_not_retried(play: Play) -> None:
    _, client = play
    with pytest.raises(ApiRefused, match="Track not found"):
        await client.read(google_play.APP, "beta")
    with pytest.raises(ApiRefused, match=r"Package not found: com\.example\.other"):
        await client.read("com.example.other", "production")


async def test_changes_that_a_person_sends_for_review_are_committed(play: Play) -> None:
    fake, client = play
    fake.demands_manual_review = True
    with pytest.raises(ApiRefused, match="changesNotSentForReview to true"):
        await client.write(*TRACK, halted)
    await client.write(*TRACK, halted, sent_for_review=False)
    assert fake.shares()["42"] == ("halted", 0.2)


@pytest.mark.parametrize("right", ["view", "release"])
async def test_missing_permissions_are_reported_with_a_fix(right: str, play: Play) -> None:
    fake, client = play
    fake.rights -= {right}
    with pytest.raises(StepFailed, match=r"\(403\): The caller does not have permission\. Check in the Play Console"):
        await client.validate_change(*TRACK, halted)


async def test_a_revoked_token_is_not_reused(play: Play) -> None:
    fake, client = play
    await client.read(*TRACK)
    fake.tokens.clear()
    with pytest.raises(StepFailed, match=r"\(401\)"):
        await client.read(*TRACK)
    assert await client.read(*TRACK)  # with a new one


@pytest.mark.parametrize("of", ["another account", "no key at all", "no JSON"])
async def test_an_invalid_key_is_reported(of: str, play: Play, tmp_path: Path) -> None:
    fake, _ = play
    key = json.loads(service_account())
    key |= {"client_email": "x@y"} if of == "another account" else {"private_key": "none"}
    async with serving(fake.answer) as url:
        settings = play_settings(url)
        file = tmp_path / "key.json"
        file.write_text("{" if of == "no JSON" else json.dumps(key))
        settings = settings.model_copy(update={"key": None, "key_file": file})
        with pytest.raises(StepFailed, match=r"refuses the key|not a JSON key of a service account") as failure:
            client = await GooglePlay.connect(settings)
            try:
                await client.read(*TRACK)
            finally:
                await client.close()
        assert "BEGIN" not in str(failure.value)
    with pytest.raises(StepFailed, match="cannot be read: No such file"):
        await GooglePlay.connect(settings.model_copy(update={"key_file": tmp_path / "none"}))


async def test_a_missing_key_is_reported() -> None:
    for kind, where in ((GooglePlay, "stores.google_play"), (AppStore, "stores.app_store")):
        with pytest.raises(StepFailed, match=f"configure {where}"):
            await Connections().to(kind)
        assert missing_package(kind) == ""


def test_a_missing_package_is_reported_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GooglePlay, "package", "not_there.oauth2")
    assert missing_package(GooglePlay).endswith("pip install 'rollback-responder[stores]'")


# --- rate limits
def _no(status: int, reason: str = "", **headers: str) -> Response:
    return refused(status, "RESOURCE_EXHAUSTED" if status == 429 else "x", "Quota exceeded", reason, **headers)


@pytest.mark.parametrize(
    "no",
    [
        _no(429, **{"Retry-After": "7"}),
        _no(403, "quotaExceeded", **{"Retry-After": "7"}),
        _no(503, **{"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=9), usegmt=True)}),
    ],
    ids=["limit", "quota", "date"],
)
async def test_retry_after_pauses_requests(no: Response, play: Play, monkeypatch: Any) -> None:
    fake, client = play
    fake.limited = [no]
    with pytest.raises(Unavailable, match="Quota exceeded"):
        await client.read(*TRACK)
    count = len(fake.requests)
    with pytest.raises(Unavailable, match="retry in"):
        await client.read(*TRACK)
    assert len(fake.requests) == count
    later = time.monotonic() + 3601
    monkeypatch.setattr(json_api.time, "monotonic", lambda: later)
    assert await client.read(*TRACK)


async def test_without_retry_after_the_next_request_is_immediate(play: Play) -> None:
    fake, client = play
    fake.limited = [_no(403, "rateLimitExceeded"), _no(500)]
    for _ in range(2):
        with pytest.raises(Unavailable, match="Quota exceeded"):
            await client.read(*TRACK)
    assert await client.read(*TRACK)


# --- App Store Connect
async def test_the_token_is_valid_for_apple(apple: Apple) -> None:
    fake, client = apple
    assert await client.read(*SEEN) == Phased("READY_FOR_DISTRIBUTION", "ph2", "ACTIVE", 3)
    await client.write("ph2", "PAUSED")
    (token,) = fake.tokens  # one for both
    head = jwt.get_unverified_header(token)
    assert (head["alg"], head["kid"]) == ("ES256", KEY_ID)
    claims = jwt.decode(token, apple_key().public_key(), algorithms=["ES256"], audience="appstoreconnect-v1")
    assert claims["iss"] == ISSUER
    assert claims["exp"] - claims["iat"] <= 20 * 60


async def test_a_token_is_renewed_before_it_expires(apple: Apple, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, client = apple
    await client.read(*SEEN)
    then = time.time() + 800
    with monkeypatch.context() as later:
        later.setattr(json_api.time, "time", lambda: then)
        await client._bearer_token()
    assert client._token not in fake.tokens


@pytest.mark.parametrize(("update", "status"), [({"key_id": "other"}, 401), ({"issuer_id": "other"}, 401)])
async def test_a_wrong_key_or_issuer_is_refused(update: Any, status: int, apple: Apple) -> None:
    fake, _ = apple
    async with serving(fake.answer) as url:
        client = await AppStore.connect(app_store_settings(url).model_copy(update=update))
        with pytest.raises(StepFailed, match=rf"\({status}\): Provide a properly .* Users and Access"):
            await client.read(*SEEN)
        await client.close()


async def test_an_invalid_private_key_is_reported(tmp_path: Path) -> None:
    (tmp_path / "key.p8").write_text("not a key")
    settings = app_store_settings("http://127.0.0.1:1").model_copy(
        update={"key": None, "key_file": tmp_path / "key.p8"}
    )
    client = await AppStore.connect(settings)
    with pytest.raises(StepFailed, match="not a private key of App Store Connect"):
        await client.read(*SEEN)
    await client.close()


async def test_a_read_only_role_is_reported(apple: Apple) -> None:
    fake, client = apple
    fake.role = "DEVELOPER"
    assert await client.read(*SEEN)
    with pytest.raises(StepFailed, match=r"does not allow this request .*App Manager"):
        await client.write("ph2", "PAUSED")
    assert fake.state == "ACTIVE"


async def test_a_forbidden_state_change_is_retried_after_a_read(apple: Apple) -> None:
    fake, client = apple
    fake.set("COMPLETE")
    with pytest.raises(Unavailable, match=r"cannot change from COMPLETE to PAUSED \(ENTITY_ERROR"):
        await client.write("ph2", "PAUSED")


async def test_an_exhausted_rate_limit_pauses_requests(apple: Apple) -> None:
    fake, client = apple
    fake.left = 0
    with pytest.raises(Unavailable, match="RATE_LIMIT_EXCEEDED"):
        await client.read(*SEEN)
    fake.left = 10
    with pytest.raises(Unavailable, match="retry in"):
        await client.read(*SEEN)


async def test_missing_versions_are_none(apple: Apple) -> None:
    fake, client = apple
    assert await client.read(app_store.APP, "IOS", "9") is None
    assert await client.read(app_store.APP, "MAC_OS", "2") is None
    assert await client.read(app_store.APP, "IOS", "") is not None  # the newest
    fake.states = [(-1e9, None)]
    assert await client.read(*SEEN) == Phased("READY_FOR_DISTRIBUTION")
    with pytest.raises(ApiRefused, match="There is no resource"):
        await client.read("99", "IOS", "2")


async def test_unexpected_answers_are_unavailable(apple: Apple) -> None:
    fake, client = apple
    fake.answers = [Response(200, b"<html>"), Response(502, b"<html>Bad gateway"), Response(418, b"")]
    with pytest.raises(Unavailable, match="expected JSON"):
        await client.read(*SEEN)
    with pytest.raises(Unavailable, match="answered 502: <html>Bad gateway"):
        await client.read(*SEEN)
    with pytest.raises(ApiRefused, match=r"\(418\): \(no text\)"):
        await client.read(*SEEN)


async def test_an_unreachable_server_is_unavailable() -> None:
    client = await AppStore.connect(app_store_settings("http://127.0.0.1:1"))
    with pytest.raises(Unavailable, match="App Store Connect: "):
        await client.read(*SEEN)
    await client.close()
    google = await GooglePlay.connect(play_settings("http://127.0.0.1:1"))
    with pytest.raises(Unavailable, match="Google's token server: "):
        await google.read(*TRACK)
    await google.close()
