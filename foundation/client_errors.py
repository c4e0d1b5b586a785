"""Texts of the errors of aiohttp clients."""

from __future__ import annotations

import os
import re
import ssl

import aiohttp

_INVALID_URL = "the URL is invalid, expected http://HOST or https://HOST"
_TEXTS: dict[type[Exception], str] = {
    aiohttp.ServerDisconnectedError: "the server closed the connection without an answer",
    aiohttp.ClientPayloadError: "the body ended too early or is not encoded as announced",
    aiohttp.InvalidURL: _INVALID_URL,
    aiohttp.NonHttpUrlClientError: _INVALID_URL,
    aiohttp.TooManyRedirects: "too many redirects",
    aiohttp.ClientResponseError: "the answer is not HTTP",
}
"""The text of each class and its subclasses; the first that fits counts."""

_TLS_ALERT = re.compile(r"\[SSL: (\w+)\]")
"""An error of OpenSSL after the handshake. Its number is one of OpenSSL, not of the operating system."""


def describe_client_error(error: BaseException) -> str:
    """Returns a short text. The texts of aiohttp may quote the answer or the URL, which may hold secrets."""
    if text := next((text for kind, text in _TEXTS.items() if isinstance(error, kind)), ""):
        return text
    match error:
        case aiohttp.ClientConnectorCertificateError():
            cause = error.certificate_error
            return f"certificate verify failed: {getattr(cause, 'verify_message', '') or type(cause).__name__}"
        case aiohttp.ClientConnectorError(os_error=ssl.SSLError() as cause):
            return _tls(cause.reason or "handshake failed")
        case OSError() if alert := _TLS_ALERT.match(error.strerror or ""):
            return _tls(alert[1])
        case aiohttp.ClientConnectorDNSError():
            return f"the host has no address: {error.os_error.strerror}"
        case OSError() if error.errno and error.errno > 0:
            return os.strerror(error.errno)
        case OSError() if error.errno and error.strerror:
            return error.strerror
        case aiohttp.ClientConnectorError():
            return str(error.os_error) or "the server closed the connection before it was established"
        case aiohttp.ClientOSError():  # its text quotes the URL
            return "the server closed the connection before the request was complete"
        case aiohttp.ClientConnectionError() if error.args:
            return str(error)
        case _:
            return type(error).__name__


def _tls(reason: str) -> str:
    return f"TLS: {reason.lower().replace('_', ' ')}"
