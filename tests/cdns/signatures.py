"""Multi-region signatures of Amazon (SigV4A): verifies requests as received, and signs requests."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cache
from urllib.parse import quote, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cdns.wire import Refusal, Request

ALGORITHM = "AWS4-ECDSA-P256-SHA256"
KEY_ID, SECRET = "good", "very-secret"
REGION = "us-east-1"
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
_LEEWAY = timedelta(minutes=5)
_TIME = "%Y%m%dT%H%M%SZ"
_AUTHORIZATION = re.compile(rf"{ALGORITHM} Credential=([^/]+)/(\d{{8}})/(.+), SignedHeaders=([-;\w]+), Signature=(\w+)")


@cache
def signing_key(key_id: str, secret: str) -> ec.EllipticCurvePrivateKey:
    """NIST's KDF in counter mode (SP 800-108), with the next counter if the result is not below the order."""
    for counter in range(1, 255):
        context = key_id.encode() + bytes([counter])
        message = (1).to_bytes(4) + ALGORITHM.encode() + b"\0" + context + (256).to_bytes(4)
        found = int.from_bytes(hmac.digest(b"AWS4A" + secret.encode(), message, "sha256"))
        if found <= _ORDER - 2:
            return ec.derive_private_key(found + 1, ec.SECP256R1())
    raise AssertionError("as good as impossible")


def check(request: Request, service: str, now: datetime) -> None:
    """Raises Refusal with Amazon's documented code and message for an invalid signature."""
    if not (given := request.headers.get("authorization")):
        raise Refusal(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    if not given.startswith(f"{ALGORITHM} "):
        raise _invalid("Credential should be scoped to a valid region.")
    if not (parsed := _AUTHORIZATION.fullmatch(given)):
        raise Refusal(403, "IncompleteSignatureException", f"Authorization header cannot be parsed: {given!r}")
    key_id, day, scope, names, signature = parsed.groups()
    if key_id != KEY_ID:
        raise Refusal(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
    signed = names.split(";")
    must = {"host", *(name for name in request.headers if name.startswith("x-amz-") or name == "content-type")}
    if lost := sorted(must - set(signed)):
        raise _invalid(f"'{lost[0]}' must be a 'SignedHeader' in the AWS Authorization.")
    _check_date(request.headers.get("x-amz-date", ""), day, now)
    if scope != f"{service}/aws4_request":
        raise _invalid(f"Credential should be scoped to correct service: '{service}'.")
    regions = request.headers.get("x-amz-region-set", "").split(",")
    if not any(fnmatchcase(REGION, region.strip()) for region in regions):
        raise _invalid("Credential should be scoped to a valid region.")
    key = signing_key(key_id, SECRET).public_key()
    try:
        key.verify(bytes.fromhex(signature), _to_sign(request, f"{day}/{scope}", signed), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        raise _invalid(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret"
            " Access Key and signing method. Consult the service documentation for details."
        ) from None


def sign(request: Request, service: str, *, regions: str = "*") -> None:
    """Signs the request with the current time, as boto3 does."""
    at = datetime.now(UTC)
    request.headers |= {"host": "amazon.test", "x-amz-date": at.strftime(_TIME), "x-amz-region-set": regions}
    scope, signed = f"{at:%Y%m%d}/{service}/aws4_request", sorted(request.headers)
    signature = signing_key(KEY_ID, SECRET).sign(_to_sign(request, scope, signed), ec.ECDSA(hashes.SHA256())).hex()
    authorization = f"Credential={KEY_ID}/{scope}, SignedHeaders={';'.join(signed)}, Signature={signature}"
    request.headers["authorization"] = f"{ALGORITHM} {authorization}"


def _check_date(date: str, day: str, now: datetime) -> None:
    try:
        at = datetime.strptime(date, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise _invalid(f"Date must be in ISO-8601 'basic format'. Got '{date}'.") from None
    if day != date[:8]:
        of = "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP"
        raise _invalid(f"{of}: '{day}' != '{date[:8]}', from '{date}'.")
    if at < now - _LEEWAY:
        raise _invalid(
            f"Signature expired: {date} is now earlier than {now - _LEEWAY:{_TIME}} ({now:{_TIME}} - 5 min.)"
        )
    if at > now + _LEEWAY:
        raise _invalid(
            f"Signature not yet current: {date} is still later than {now + _LEEWAY:{_TIME}} ({now:{_TIME}} + 5 min.)"
        )


def _invalid(message: str) -> Refusal:
    return Refusal(403, "InvalidSignatureException", message)


def _to_sign(request: Request, scope: str, signed: list[str]) -> bytes:
    """The canonical request as received: signed headers, and the complete path, query and body."""
    path, _, query = request.target.partition("?")
    pairs = sorted(tuple(_quoted(part) for part in pair.partition("=")[::2]) for pair in query.split("&") if pair)
    lines = (
        request.method,
        quote(path),  # encoded twice, for every service except S3
        "&".join(f"{name}={value}" for name, value in pairs),
        *(f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in signed),
        "",
        ";".join(signed),
        hashlib.sha256(request.body).hexdigest(),
    )
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return "\n".join((ALGORITHM, request.headers["x-amz-date"], scope, digest)).encode()


def _quoted(text: str) -> str:
    return quote(unquote(text), safe="")
