"""A service account and a team key, created once, and their settings."""

from __future__ import annotations

import json
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from responder.backends.app_stores.app_store_client import AppStoreSettings
from responder.backends.app_stores.google_play_client import GooglePlaySettings

ACCOUNT = "responder@shop.iam.gserviceaccount.com"
KEY_ID, ISSUER = "2X9R4HXF34", "57246542-96fe-1a63-e053-0824d011072a"


@cache
def google_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def apple_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def service_account() -> str:
    key = {
        "type": "service_account",
        "client_email": ACCOUNT,
        "private_key_id": "1",
        "private_key": pem(google_key()),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    return json.dumps(key)


def play_settings(url: str) -> GooglePlaySettings:
    settings = {"url": url, "token_uri": f"{url}/token", "key": service_account(), "timeout": "5s"}
    return GooglePlaySettings.model_validate_json(json.dumps(settings))


def app_store_settings(url: str) -> AppStoreSettings:
    settings = {"url": url, "key_id": KEY_ID, "issuer_id": ISSUER, "timeout": "5s"}
    return AppStoreSettings.model_validate_json(json.dumps({**settings, "key": pem(apple_key())}))
