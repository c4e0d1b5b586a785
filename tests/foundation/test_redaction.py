from __future__ import annotations

import json

import pytest

from foundation.redaction import Redactor, shown_url


@pytest.mark.parametrize(
    "text",
    [
        "password p@ss/w0rd is wrong",
        "in a URL p%40ss%2Fw0rd it is encoded",
        "postgresql://u:p@ss/w0rd@h/db",
        "p@ss/w0rdp@ss/w0rd",
    ],
)
def test_masks_every_form_of_a_secret(text: str) -> None:
    shown = Redactor(["p@ss/w0rd"])(text)
    assert "w0rd" not in shown
    assert "***" in shown


def test_masks_passwords_of_unknown_urls() -> None:
    assert Redactor()("see redis://:hunter2@cache/0") == "see redis://:***@cache/0"


@pytest.mark.parametrize("shown", [repr("a'b\\c\"d"), json.dumps("a'b\\c\"d")])
def test_masks_quoted_forms(shown: str) -> None:
    assert Redactor(["a'b\\c\"d"])(f"expected {shown}").strip("'\"").endswith("***")


def test_a_longer_secret_is_masked_before_one_inside_it() -> None:
    assert Redactor(["abc", "abcdef"])("abcdef") == "***"


def test_a_reason_stays_on_one_line() -> None:
    assert Redactor()("a\r\nlevel=info forged\x1b[31m") == "a level=info forged [31m"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/p?token=x&deep=1#f", "http://h/p?token=***&deep=***"),
        ("postgresql://u:pw@h:5432/db?password=x", "postgresql://u@h:5432/db?password=***"),
        ("redis://:pw@h/0", "redis://h/0"),
    ],
)
def test_shown_url(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_a_megabyte_is_cut_without_splitting_a_secret() -> None:
    secret = "s3cret-" * 5
    for before in range(4096 - len(secret) - 1, 4097):
        shown = Redactor([secret])("x" * before + secret + "y" * 1_000_000)
        assert len(shown) <= 4096
        assert "s3cret" not in shown
