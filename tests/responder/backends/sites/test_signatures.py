"""A KeyValueStore accepts requests that the responder signs, and refuses any request with one difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from responder.backends.sites.cloudfront import CloudfrontKey
from responder.transport.aws import Aws, AwsRefused
from tests.cdns import Amazon
from tests.cdns.amazon import ARN, KEYS
from tests.cdns.connected import aws_settings
from tests.cdns.signatures import sign, signing_key
from tests.cdns.wire import Request, Response

KEY = CloudfrontKey(kvs=ARN, key="active")
MISMATCH = "The request signature we calculated does not match the signature you provided"


@pytest.mark.parametrize(
    ("key_id", "secret", "x", "y"),
    [
        (
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            0xB6618F6A65740A99E650B33B6B4B5BD0D43B176D721A3EDFEA7E7D2D56D936B1,
            0x865ED22A7EADC9C5CB9D2CBACA1B3699139FEDC5043DC6661864218330C8E518,
        ),
        (
            "AKISORANDOMAASORANDOM",
            "q+jcrXGc+0zWN6uzclKVhvMmUsIfRPa4rlRandom",
            0x15D242CEEBF8D8169FD6A8B5A746C41140414C3B07579038DA06AF89190FFFCB,
            0x0515242CEDD82E94799482E4C0514B505AFCCF2C0C98D6A553BF539F424C5EC0,
        ),
    ],
)
def test_signatures_match_the_test_suite_of_amazon(key_id: str, secret: str, x: int, y: int) -> None:
    numbers = signing_key(key_id, secret).public_key().public_numbers()
    assert (numbers.x, numbers.y) == (x, y)


@pytest.mark.parametrize("key", ["active", "a b/ü~+%2F*", "näme?x=1&y"])
async def test_signed_requests_are_accepted(key: str, aws: Aws, amazon: Amazon) -> None:
    """Paths that need encoding: the test server reads the raw path."""
    amazon.keys = {key: "2"}
    await KEY.model_copy(update={"key": key}).write(aws, "1", expected="2")
    assert amazon.keys == {key: "1"}
    signed = [request.headers["authorization"].split()[0] for request in amazon.requests]
    assert signed == ["AWS4-ECDSA-P256-SHA256"] * 3


async def test_the_token_of_a_session_is_signed_as_well(
    amazon_url: str, amazon: Amazon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a role: boto3 finds the three values."""
    settings = aws_settings(amazon_url)
    assert settings.access_key_id is not None and settings.secret_access_key is not None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", settings.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", settings.secret_access_key.get_secret_value())
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of this hour")
    aws = Aws(settings.model_copy(update={"access_key_id": None, "secret_access_key": None}))
    try:
        await KEY.read(aws)
    finally:
        await aws.close()
    (request,) = amazon.requests
    assert _code(amazon.answer(request)) == ""
    assert request.headers["x-amz-security-token"] == "of this hour"
    other = {**request.headers, "x-amz-security-token": "of the hour before"}
    assert _code(amazon.answer(replace(request, headers=other))).startswith(f"InvalidSignatureException: {MISMATCH}")


async def test_a_wrong_secret_is_reported_and_changes_nothing(amazon_url: str, amazon: Amazon) -> None:
    aws = Aws(aws_settings(amazon_url, secret_access_key="very-secret2"))
    try:
        with pytest.raises(AwsRefused, match=MISMATCH) as refused:
            await aws.write(KEYS, "put_key", KvsARN=ARN, Key="active", Value="1", IfMatch="K1")
    finally:
        await aws.close()
    assert refused.value.code == "InvalidSignatureException"
    assert "very-secret" not in str(refused.value)
    assert amazon.keys == {"active": "2"}


@pytest.mark.parametrize(
    ("ahead", "message"),
    [(6, r"Signature expired: \w+ is now earlier than"), (-6, r"Signature not yet current: \w+ is still later than")],
)
async def test_a_wrong_clock_is_reported(ahead: int, message: str, aws: Aws, amazon: Amazon) -> None:
    amazon.now = lambda: datetime.now(UTC) + timedelta(minutes=ahead)
    with pytest.raises(AwsRefused, match=message):
        await KEY.write(aws, "1", expected="2")
    assert amazon.keys == {"active": "2"}
    amazon.now = lambda: datetime.now(UTC) + timedelta(minutes=ahead * 2 / 3)
    await KEY.write(aws, "1", expected="2")
    assert amazon.keys == {"active": "1"}


def _header(name: str, value: str | Callable[[str], str]) -> Callable[[Request], Request]:
    def changed(request: Request) -> Request:
        new = value(request.headers[name]) if callable(value) else value
        return replace(request, headers={**request.headers, name: new})

    return changed


def _without(name: str) -> Callable[[Request], Request]:
    return lambda request: replace(request, headers={k: v for k, v in request.headers.items() if k != name})


def _altered(old: str, new: str) -> Callable[[Request], Request]:
    def changed(value: str) -> str:
        assert old in value
        return value.replace(old, new)

    return _header("authorization", changed)


def _a_minute_earlier(date: str) -> str:
    """Or later, if the date changes in between."""
    at, form = datetime.strptime(date, "%Y%m%dT%H%M%SZ"), "%Y%m%dT%H%M%SZ"
    return next(f"{new:{form}}" for new in (at - timedelta(minutes=1), at + timedelta(minutes=1)) if new.day == at.day)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda request: replace(request, body=b'{"Value": "3"}'), MISMATCH),
        (lambda request: replace(request, body=b""), MISMATCH),
        (lambda request: replace(request, target=request.target.replace("/active", "/passive")), MISMATCH),
        (lambda request: replace(request, target=request.target.replace("%2F", "/")), MISMATCH),
        (lambda request: replace(request, target=f"{request.target}?force=true"), MISMATCH),
        (lambda request: replace(request, method="DELETE"), MISMATCH),
        (_header("if-match", "K2"), MISMATCH),
        (_header("host", "another.localhost"), MISMATCH),
        (_header("content-type", "text/plain"), MISMATCH),
        (_header("x-amz-date", _a_minute_earlier), MISMATCH),
        (_header("x-amz-region-set", "us-east-1"), MISMATCH),
        (_header("x-amz-region-set", "eu-west-1,eu-north-*"), "Credential should be scoped to a valid region."),
        (_header("x-amz-date", "20150830T123600Z"), "Date in Credential scope does not match YYYYMMDD"),
        (_header("x-amz-date", "today"), "Date must be in ISO-8601 'basic format'. Got 'today'."),
        (_header("x-amz-target", "new"), "'x-amz-target' must be a 'SignedHeader'"),
        (_without("if-match"), MISMATCH),
        (_without("x-amz-region-set"), "Credential should be scoped to a valid region."),
        (_altered(";if-match", ""), MISMATCH),
        (_altered("host;", ""), "'host' must be a 'SignedHeader'"),
        (_altered("content-type;", ""), "'content-type' must be a 'SignedHeader'"),
        (_altered("/cloudfront-keyvaluestore/", "/cloudfront/"), "Credential should be scoped to correct service"),
        (_altered("Signature=", "Signature=00"), MISMATCH),
        (_altered("AWS4-ECDSA-P256-SHA256", "AWS4-HMAC-SHA256"), "Credential should be scoped to a valid region."),
    ],
)
async def test_unsigned_requests_are_refused(
    changed: Callable[[Request], Request], message: str, signed: Request, amazon: Amazon
) -> None:
    assert _code(amazon.answer(changed(signed))).startswith(f"InvalidSignatureException: {message}")
    assert amazon.keys == {"active": "2"}
    assert amazon.answer(signed).status == 200  # unchanged, it is accepted
    assert amazon.keys == {"active": "1"}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (_altered("=good/", "=nobody/"), "UnrecognizedClientException"),
        (_without("authorization"), "MissingAuthenticationTokenException"),
        (_altered(", Signature=", ", "), "IncompleteSignatureException"),
    ],
)
async def test_an_unknown_key_is_refused(
    changed: Callable[[Request], Request], code: str, signed: Request, amazon: Amazon
) -> None:
    assert _code(amazon.answer(changed(signed))).startswith(f"{code}: ")
    assert amazon.keys == {"active": "2"}


@pytest.mark.parametrize(
    ("regions", "taken"),
    [("*", True), ("us-*", True), ("eu-west-1,us-east-1", True), ("eu-west-1", False), ("", False)],
)
async def test_a_signature_is_valid_in_its_regions_only(regions: str, taken: bool, amazon: Amazon) -> None:
    request = Request.of("GET", f"/key-value-stores/{ARN}/keys/active", {}, b"")
    sign(request, KEYS, regions=regions)
    response = amazon.answer(request)
    assert _code(response).startswith(
        "" if taken else "InvalidSignatureException: Credential should be scoped to a valid"
    )
    assert (response.status == 200) == taken


@pytest.fixture
async def signed(aws: Aws, amazon: Amazon) -> Request:
    """A write as the responder signs it, which the store has not seen yet."""
    await aws.write(KEYS, "put_key", KvsARN=ARN, Key="active", Value="1", IfMatch="K1")
    assert amazon.keys == {"active": "1"}
    amazon.keys, amazon.keys_etag = {"active": "2"}, 1
    return amazon.requests[-1]


def _code(response: Response) -> str:
    """As boto3 reads it."""
    if response.status == 200:
        return ""
    assert response.status == 403
    body: dict[str, Any] = json.loads(response.body)
    return f"{response.headers['x-amzn-ErrorType']}: {body['Message']}"
