"""The texts say what failed, and quote neither the URL nor Python."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from foundation.client_errors import describe_client_error

KEY: Any = None
ALERT = "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2580)"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        # As aiohttp raises it if a server of TLS 1.3 requires a client certificate.
        (aiohttp.ClientOSError(1, ALERT), "TLS: tlsv13 alert certificate required"),
        # As with TLS 1.2, where the server ends the handshake instead.
        (
            aiohttp.ClientConnectorError(KEY, ConnectionResetError()),
            "the server closed the connection before it was established",
        ),
        (aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "Connect call failed")), "Connection refused"),
        (aiohttp.ClientOSError(104, "Cannot write request body for http://u:p@h/"), "Connection reset by peer"),
        (
            aiohttp.ClientOSError(None, "Can not write request body for https://hooks.slack.com/services/T0/B0/sesame"),
            "the server closed the connection before the request was complete",
        ),
        (aiohttp.InvalidUrlClientError("http://u:p@[h"), "the URL is invalid, expected http://HOST or https://HOST"),
        (aiohttp.NonHttpUrlClientError("h:9095"), "the URL is invalid, expected http://HOST or https://HOST"),
    ],
)
def test_each_error_has_a_text_for_people(error: aiohttp.ClientError, text: str) -> None:
    assert describe_client_error(error) == text
