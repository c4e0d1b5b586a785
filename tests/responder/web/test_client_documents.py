"""The documents that apps poll are signed, change only with their content, and need a token if configured."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from pydantic import ValidationError

from responder.web.client_settings import ClientSettings
from tests.responder.web.conftest import SECRETS, ResponderServer

PATH = "/api/v1/clients/backend/android"
ROOT = Path(__file__).parents[3]


def pem(key: Any, encryption: KeySerializationEncryption | None = None) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))


@pytest.fixture
def settings(tmp_path: Path) -> ClientSettings:
    file = tmp_path / "clients.pem"
    file.write_bytes(pem(Ed25519PrivateKey.generate()))
    return ClientSettings(signing_key_file=file, public=True)


@pytest.fixture
async def android_house(responder: ResponderServer, settings: ClientSettings) -> ResponderServer:
    """2.0 was good on android, and 2.1 followed."""
    responder.clients = settings
    for version, seconds, status in (("2.0", 900, "good"), ("2.1", 60, None)):
        await responder.deployed(version, seconds, status, platform="android")
    return responder


async def ask(responder: ResponderServer, path: str = PATH, **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    async with responder.client.get(path, headers=headers) as response:
        return response.status, response.headers, await response.read()


async def read(responder: ResponderServer, path: str = PATH) -> dict[str, Any]:
    """Verifies as an app does: with the published key only."""
    [key] = json.loads((await ask(responder, "/api/v1/clients/keys"))[2])["keys"]
    _, _, body = await ask(responder, path)
    assert jwt.get_unverified_header(body)["kid"] == key["kid"]
    return dict(jwt.decode(body, jwt.PyJWK(key), algorithms=["EdDSA"]))


async def change(responder: ResponderServer, **what: Any) -> Any:
    status, body = await responder.post(PATH, {"reason": "charges twice", "by": "alice", **what})
    assert status == 200, body
    return body


async def test_the_document_has_everything_that_an_app_needs(android_house: ResponderServer) -> None:
    await change(android_house, min_version="1.5", block=["1.9"], flags={"checkout": False})
    assert await read(android_house) == {
        "service": "backend",
        "platform": "android",
        "environment": "production",
        "version": "2.1",
        "revision": 1,
        "min_version": "1.5",
        "blocked_versions": ["1.9"],
        "flags": {"checkout": False},
    }


async def test_a_document_changes_only_with_its_content(
    android_house: ResponderServer, settings: ClientSettings
) -> None:
    status, headers, body = await ask(android_house)
    assert (status, headers["Content-Type"]) == (200, "application/jwt")
    assert headers["Cache-Control"] == "public, max-age=60"
    assert headers["Access-Control-Allow-Origin"] == "*"
    android_house.clients = ClientSettings(
        signing_key_file=settings.signing_key_file, public=True
    )  # as after a restart
    again = await ask(android_house)
    assert (again[1]["ETag"], again[2]) == (headers["ETag"], body)
    status, known, nothing = await ask(android_house, **{"If-None-Match": headers["ETag"]})
    assert (status, nothing, known["ETag"], known["Cache-Control"]) == (304, b"", headers["ETag"], "public, max-age=60")
    await change(android_house, flags={"checkout": False})
    status, changed, _ = await ask(android_house, **{"If-None-Match": headers["ETag"]})
    assert status == 200 and changed["ETag"] != headers["ETag"]


async def test_an_unchanged_document_is_a_304_without_a_signature(
    android_house: ResponderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, headers, _ = await ask(android_house)
    assert android_house.clients is not None
    monkeypatch.setattr(android_house.clients.signer, "sign", None)
    assert (await ask(android_house, **{"If-None-Match": headers["ETag"]}))[0] == 304


async def test_a_modified_document_is_rejected(android_house: ResponderServer) -> None:
    _, _, body = await ask(android_house)
    head, payload, signature = body.split(b".")
    [key] = json.loads((await ask(android_house, "/api/v1/clients/keys"))[2])["keys"]
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(b".".join((head, payload[:-4] + b"AAAA", signature)), jwt.PyJWK(key), algorithms=["EdDSA"])
    assert "d" not in key, "the private key is not published"


@pytest.mark.parametrize(
    ("known_as", "blocked", "version"),
    [
        ("candidate", [], "2.1"),
        ("good", [], "2.1"),
        ("suspect", [], "2.1"),
        ("bad", [], "2.0"),
        ("retired", [], "2.0"),
        ("good", ["2.1"], "2.0"),
        ("bad", ["2.0"], ""),
    ],
)
async def test_the_recommended_version_is_never_a_bad_one(
    android_house: ResponderServer, known_as: str, blocked: list[str], version: str
) -> None:
    await android_house.post("/api/v1/versions/backend/2.1", {"status": known_as})
    if blocked:
        await change(android_house, block=blocked)
    assert (await read(android_house))["version"] == version


async def test_changes_record_author_and_reason(android_house: ResponderServer) -> None:
    await change(android_house, block=["1.9", "1.8"])
    body = await change(android_house, unblock=["1.9"], min_version="1.0", by="bob", reason="was not it")
    assert (body["revision"], body["blocked_versions"], body["min_version"]) == (2, ["1.8"], "1.0")
    history = (await android_house.get(f"{PATH}/history"))[1]
    assert (history["revision"], history["platform"]) == (2, "android")
    assert [(c["changed_by"], c["reason"], c["blocked_versions"]) for c in history["changes"]] == [
        ("bob", "was not it", ["1.8"]),
        ("alice", "charges twice", ["1.9", "1.8"]),
    ]


async def test_an_unread_change_is_not_overwritten(android_house: ResponderServer) -> None:
    async with android_house.client.get(f"{PATH}/history") as response:
        seen = response.headers["ETag"]
    payload = {"reason": "x", "block": ["1.9"]}
    assert (await android_house.post(PATH, payload, headers={"If-Match": seen}))[0] == 200
    assert (await android_house.post(PATH, {**payload, "block": ["1.8"]}, headers={"If-Match": seen}))[0] == 412
    assert (await read(android_house))["blocked_versions"] == ["1.9"]


@pytest.mark.parametrize(
    ("payload", "where"),
    [
        ({"block": ["1"]}, "reason"),
        ({"reason": "x", "block": [""]}, "block[0]"),
        ({"reason": "x", "block": ["a b"]}, "block[0]"),
        ({"reason": "x", "block": ["1"], "unblock": ["1"]}, "block, unblock"),
        ({"reason": "x", "min_version": "../x"}, "min_version"),
        ({"reason": "x", "flags": {"a": "off"}}, "flags.a"),
        ({"reason": "x", "blocked_versions": ["1"]}, "blocked_versions"),
    ],
)
async def test_an_invalid_change_is_rejected_with_its_path(
    android_house: ResponderServer, payload: Any, where: str
) -> None:
    status, body = await android_house.post(PATH, payload)
    assert (status, body["where"]) == (400, where), body
    assert (await android_house.get(f"{PATH}/history"))[1]["revision"] == 0


async def test_the_number_of_blocked_versions_is_limited(android_house: ResponderServer) -> None:
    for hundred in range(10):
        await change(android_house, block=[f"{hundred}.{n}" for n in range(100)])
    status, body = await android_house.post(PATH, {"reason": "x", "block": ["11.0"]})
    assert (status, body["where"]) == (400, "block")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/api/v1/clients/backend/tv", "no deployment of backend on tv"),
        ("/api/v1/clients/nobody/android", "no service 'nobody'"),
        ("/api/v1/clients/backend/android?environment=moon", "moon"),
    ],
)
async def test_an_unreported_platform_has_no_document(android_house: ResponderServer, path: str, says: str) -> None:
    status, body = await android_house.get(path)
    assert status == 404 and says in body["error"]


@pytest.mark.parametrize("path", [PATH, "/api/v1/clients/keys"])
async def test_without_a_key_there_are_no_documents(responder: ResponderServer, path: str) -> None:
    status, body = await responder.get(path)
    assert (status, body["error"]) == (404, "no documents for apps are served: configure clients.signing_key_file")


@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize("path", [PATH, "/api/v1/clients/keys"])
async def test_who_may_read_the_documents(
    guarded_responder: ResponderServer, settings: ClientSettings, path: str, public: bool
) -> None:
    guarded_responder.clients = ClientSettings(signing_key_file=settings.signing_key_file, public=public)
    await guarded_responder.deployed("2.0", platform="android")
    assert (await ask(guarded_responder, path))[0] == (200 if public else 401)
    status, headers, _ = await ask(guarded_responder, path, Authorization=f"Bearer {SECRETS['read']}")
    assert (status, headers["Cache-Control"]) == (200, f"{'public' if public else 'private'}, max-age=60")
    assert (await guarded_responder.post(PATH, {"reason": "x"}))[0] == 401, "reading only"
    assert (await ask(guarded_responder, f"{PATH}/history"))[0] == 401


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "must hold a PEM private key"),
        (pem(generate_private_key(SECP256R1())), "must hold an Ed25519 key"),
        (pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"x")), "without a passphrase"),
        (None, "cannot be read"),
    ],
)
def test_a_key_that_cannot_sign_is_reported_at_startup(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "key.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValidationError, match=says) as refused:
        ClientSettings(signing_key_file=file)
    assert str(file) in str(refused.value)


async def test_the_example_of_the_documentation_enforces_the_document(android_house: ResponderServer) -> None:
    text = (ROOT / "docs" / "how-to" / "version-registry.md").read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "version-registry.md", "exec"), names)
    [key] = json.loads((await ask(android_house, "/api/v1/clients/keys"))[2])["keys"]
    rules = names["Rules"](str(android_house.client.make_url(PATH)), key)

    async def polled(version: str) -> tuple[bool, bool]:
        await asyncio.to_thread(rules.poll)
        return rules.may_run(version), rules.enabled("checkout")

    assert await polled("2.1") == (True, True)
    await change(android_house, block=["2.1"], min_version="2.0", flags={"checkout": False})
    assert await polled("2.1") == (False, False)
    first = dict(rules.rules)
    assert await polled("2.0") == (True, False)
    assert await polled("1.9") == (False, False)
    assert rules.rules == first
    assert android_house.clients is not None
    rules.rules["revision"] = 7  # an older document than the known one
    await change(android_house, unblock=["2.1"])
    assert await polled("2.1") == (False, False)
    rules.url = str(android_house.client.make_url("/api/v1/clients/nobody/android"))
    assert await polled("2.1") == (False, False), "without an answer it applies the last document"
