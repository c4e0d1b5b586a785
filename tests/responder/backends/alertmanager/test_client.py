"""Only valid answers of Alertmanager count, and a silence on one peer counts for all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aioresponses import aioresponses
from pydantic import SecretStr, ValidationError

from responder.backends.alertmanager.client import Alertmanager, AlertmanagerSettings, NewSilence
from responder.backends.alertmanager.matchers import parse_matchers
from responder.errors import Unavailable
from tests.responder.examples import LABELS, NOW
from tests.responder.outside import FakeAlertmanager, serving

ONE, TWO = "1" * 16, "2" * 16


@pytest.fixture
async def second() -> AsyncIterator[FakeAlertmanager]:
    async with FakeAlertmanager().up() as up:
        yield up


@pytest.fixture
async def client(alertmanager: FakeAlertmanager) -> AsyncIterator[Alertmanager]:
    made = await Alertmanager.connect(AlertmanagerSettings(urls=(alertmanager.url,), timeout=60.0))
    yield made
    await made.close()


@pytest.fixture
async def pair(alertmanager: FakeAlertmanager, second: FakeAlertmanager) -> AsyncIterator[Alertmanager]:
    made = await Alertmanager.connect(AlertmanagerSettings(urls=(alertmanager.url, second.url + "/"), timeout=3.0))
    yield made
    await made.close()


async def test_alerts_are_requested_by_their_labels(client: Alertmanager, alertmanager: FakeAlertmanager) -> None:
    alertmanager.fires(LABELS, ONE)
    alertmanager.fires({**LABELS, "environment": "staging"}, TWO)
    (found,) = await client.alerts(LABELS)
    assert (found.fingerprint, found.state) == (ONE, "active")
    assert alertmanager.requests[0].path == "/api/v2/alerts"
    assert alertmanager.requests[0].query.getall("filter") == [f'{k}="{v}"' for k, v in LABELS.items()]


async def test_a_label_cannot_break_out_of_its_filter(client: Alertmanager, alertmanager: FakeAlertmanager) -> None:
    labels = {"alertname": 'x", service=~".*\\\n&filter=a', "path": "C:\\temp\t\x01ü", "my label": "1"}
    await client.alerts(labels)
    found = alertmanager.requests[0].query.getall("filter")
    assert found[0] == r'alertname="x\", service=~\".*\\\n&filter=a"'
    assert {matcher.name: matcher.value for text in found for matcher in parse_matchers(text)} == labels


async def test_a_silenced_alert_has_the_author_of_its_silence(
    client: Alertmanager, alertmanager: FakeAlertmanager
) -> None:
    alertmanager.fires(LABELS, ONE, state="suppressed", silenced_by=("s1",), inhibited_by=("i1",))
    alertmanager.silences["s1"] = {"id": "s1", "createdBy": "bob", "comment": "deploying", "status": {}, "matchers": []}
    (found,) = await client.alerts(LABELS)
    assert (found.state, found.silenced_by, found.inhibited_by) == ("suppressed", ("s1",), ("i1",))
    assert str(await client.silence("s1")) == "silence s1 of bob: deploying"


@pytest.mark.parametrize("charset", ["utf-8", "nonsense"])
async def test_a_binary_answer_is_unavailable(charset: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response([])
        return web.Response(status=502, body=b"\xff\xfe", headers={"Content-Type": f"text/html; charset={charset}"})

    new = NewSilence(matchers=('service="backend"',), comment="e-1", starts_at=NOW, ends_at=NOW)
    async with serving(**{"api/v2/silences": answer}) as url:
        client = await Alertmanager.connect(AlertmanagerSettings(urls=(url,), timeout=60.0))
        try:
            with pytest.raises(Unavailable, match="answered 502"):
                await client.keep_silences([new], lambda comment: True, "rollback-responder")
        finally:
            await client.close()


async def test_a_deleted_silence_is_reported_with_a_placeholder(client: Alertmanager) -> None:
    assert str(await client.silence("gone")) == "silence gone of an unknown author"


async def test_an_alert_that_one_peer_suppresses_is_suppressed(
    pair: Alertmanager, alertmanager: FakeAlertmanager, second: FakeAlertmanager
) -> None:
    for first, other in (("active", "suppressed"), ("suppressed", "active")):
        alertmanager.alerts.clear()
        second.alerts.clear()
        alertmanager.fires(LABELS, ONE, state=first)
        second.fires(LABELS, ONE, state=other)
        assert [a.state for a in await pair.alerts(LABELS)] == ["suppressed"]


async def test_alerts_of_a_single_peer_are_found(
    pair: Alertmanager, alertmanager: FakeAlertmanager, second: FakeAlertmanager
) -> None:
    alertmanager.fires(LABELS, ONE)
    second.fires(LABELS, TWO)
    assert {a.fingerprint for a in await pair.alerts(LABELS)} == {ONE, TWO}
    second.silences["s1"] = {"id": "s1", "createdBy": "bob"}
    assert str(await pair.silence("s1")) == "silence s1 of bob"


@pytest.mark.parametrize("trouble", ["status", "hangs", "html"])
async def test_one_answering_peer_is_enough(
    trouble: str, pair: Alertmanager, alertmanager: FakeAlertmanager, second: FakeAlertmanager
) -> None:
    second.fires(LABELS, ONE)
    if trouble == "status":
        alertmanager.status = 500
    elif trouble == "hangs":
        alertmanager.hangs = True
    else:
        alertmanager.raw, alertmanager.content_type = b"<html>", "text/html"
    assert len(await pair.alerts(LABELS)) == 1


async def test_without_an_answering_peer_each_error_is_reported(
    pair: Alertmanager, alertmanager: FakeAlertmanager, second: FakeAlertmanager
) -> None:
    alertmanager.status, second.hangs = 502, True
    with pytest.raises(Unavailable, match="no Alertmanager answered") as raised:
        await pair.alerts(LABELS)
    assert f"{alertmanager.url}/api/v2/alerts answered 502" in str(raised.value)
    assert f"{second.url}/api/v2/alerts did not answer within" in str(raised.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"5",
        b'{"status": "error"}',
        b"[1]",
        b"[{}]",
        b'[{"fingerprint": "1", "status": {}}]',
        b'[{"fingerprint": 1, "status": {"state": "asleep", "silencedBy": [], "inhibitedBy": []}}]',
        b'[{"fingerprint": "1", "status": {"state": "active", "silencedBy": null, "inhibitedBy": []}}]',
    ],
)
async def test_an_unexpected_answer_is_unavailable(
    raw: bytes, client: Alertmanager, alertmanager: FakeAlertmanager
) -> None:
    """A proxy that answers in Alertmanager's place must not end a rollback, and must not allow one."""
    alertmanager.raw = raw
    with pytest.raises(Unavailable):
        await client.alerts(LABELS)


async def test_a_404_is_not_an_empty_list(client: Alertmanager, alertmanager: FakeAlertmanager) -> None:
    alertmanager.status = 404
    with pytest.raises(Unavailable):
        await client.alerts(LABELS)


async def test_the_token_is_sent_and_the_path_is_joined() -> None:
    with aioresponses() as answers:
        answers.get("http://am.test/prefix/api/v2/alerts", payload=[])
        settings = AlertmanagerSettings(urls=("http://am.test/prefix/",), token=SecretStr("sesame"))
        client = await Alertmanager.connect(settings)
        assert list(await client.alerts({})) == []
        await client.close()
    assert "sesame" not in repr(settings)
    assert "sesame" not in json.dumps(settings.model_dump(mode="json"))


def test_settings_without_a_url_are_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        AlertmanagerSettings(urls=())
