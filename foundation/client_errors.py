"""Texts of the errors of aiohttp clients."""

from __future__ import annotations

import os
import ssl

import aiohttp


def describe_client_error(error: BaseException) -> str:
    """Returns a short text. The texts of aiohttp may quote the answer or the URL, which may hold secrets."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            cause = error.certificate_error
            return f"certificate verify failed: {getattr(cause, 'verify_message', '') or type(cause).__name__}"
        case aiohttp.ClientConnectorError(os_error=ssl.SSLError() as cause):
            return f"TLS: {(cause.reason or 'handshake failed').lower().replace('_', ' ')}"
        case aiohttp.ClientConnectorDNSError():
            return f"the host has no address: {error.os_error.strerror}"
        case aiohttp.ServerDisconnectedError():
            return "the server closed the connection without an answer"
        case aiohttp.ClientPayloadError():
            return "the body ended too early or is not encoded as announced"
        case aiohttp.TooManyRedirects():
            return "too many redirects"
        case aiohttp.ClientResponseError():
            return "the answer is not HTTP"
        case OSError() if error.errno and error.errno > 0:
            return os.strerror(error.errno)
        case OSError() if error.strerror:
            return error.strerror
        case aiohttp.ClientConnectionError() if error.args:
            return str(error)
        case _:
            return type(error).__name__
