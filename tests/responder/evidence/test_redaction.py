"""Secrets are redacted before anything is written, and other text stays readable."""

from __future__ import annotations

import pytest

from responder.evidence.redaction import Redactor, problem_of


@pytest.mark.parametrize(
    ("text", "clean", "count"),
    [
        ("Authorization: Bearer abc.def-123", "Authorization: [redacted]", 1),
        ('{"authorization": "Basic dXNlcjpwYXNz", "x": 1}', '{"authorization": "[redacted]", "x": 1}', 1),
        ("authorization=AWS4-HMAC-SHA256 Credential=A, Signature=b\nnext", "authorization=[redacted]\nnext", 1),
        ("sent bearer abcdefgh.ijk to x", "sent bearer [redacted] to x", 1),
        ("password=hunter2 user=x", "password=[redacted] user=x", 1),
        ('"password":"a b,c", "k":1', '"password":"[redacted]", "k":1', 1),
        (r"{\"password\":\"x y\"}", r"{\"password\":\"[redacted]\"}", 1),
        ("pwd='x y' z", "pwd='[redacted]' z", 1),
        ("DB_PASSWORD: s3cret", "DB_PASSWORD: [redacted]", 1),
        ("aws_secret_access_key = wJalr/XUtn+FEMI", "aws_secret_access_key = [redacted]", 1),
        ("?token=abc&x=1", "?token=[redacted]&x=1", 1),
        ("X-Api-Key: abc", "X-Api-Key: [redacted]", 1),
        ("postgres://user:pass@db/shop", "postgres://user:[redacted]@db/shop", 1),
        ("redis://:pass@cache:6379", "redis://:[redacted]@cache:6379", 1),
        ("key AKIAIOSFODNN7EXAMPLE was used", "key [redacted] was used", 1),
        ("Set-Cookie: sid=1; HttpOnly", "Set-Cookie: [redacted]", 1),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "got [redacted]", 1),
        ("ghp_0123456789abcdefghij", "[redacted]", 1),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nx",
            "-----BEGIN RSA PRIVATE KEY-----[redacted]-----END RSA PRIVATE KEY-----\nx",
            1,
        ),
        ("a password=x\nb password=y\n", "a password=[redacted]\nb password=[redacted]\n", 2),
        # Text that only looks like a secret.
        ("unexpected token in line 3", "unexpected token in line 3", 0),
        ("GET http://localhost:9090/x?a=b@c", "GET http://localhost:9090/x?a=b@c", 0),
        ("user@example.com at 10:20", "user@example.com at 10:20", 0),
        ("", "", 0),
    ],
)
def test_common_secrets_are_redacted(text: str, clean: str, count: int) -> None:
    assert Redactor().clean(text.encode()) == (clean.encode(), count)


def test_redaction_is_idempotent() -> None:
    once, _ = Redactor().clean(b"Authorization: Bearer abc.def password=x postgres://u:p@h")
    assert Redactor().clean(once) == (once, 0)


def test_binary_data_is_unchanged() -> None:
    assert Redactor().clean(b"\xff\xfe\x00password=x\xff") == (b"\xff\xfe\x00password=[redacted]\xff", 1)
    assert Redactor().clean(bytes(range(256)))[1] == 0


@pytest.mark.parametrize(
    ("pattern", "text", "clean"),
    [
        (r"customer=(\d+)", "customer=17 x", "customer=[redacted] x"),
        (r"\b\d{4}-\d{4}\b", "card 1234-5678", "card [redacted]"),
        (r"(a)x|(b)y", "ax by", "[redacted]x [redacted]y"),
        ("Müller", "Herr Müller", "Herr [redacted]"),
    ],
)
def test_configured_patterns_are_redacted(pattern: str, text: str, clean: str) -> None:
    assert not problem_of(pattern)
    assert Redactor([pattern]).clean(text.encode())[0].decode() == clean


@pytest.mark.parametrize("pattern", ["(", r"(?=x)", "x*"])
def test_an_invalid_pattern_is_refused(pattern: str) -> None:
    assert repr(pattern) in problem_of(pattern)
