"""Every check type keeps the published contract of a probe."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from exporters.probes import PROBES
from exporters.testing import LAWS, ProbeCase

SECRET = "s3cret-pw"
Law = Callable[[ProbeCase], Awaitable[None]]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def http_response(make: Any, talk: Any, answer: Any, port: int, request: Any) -> ProbeCase:
    headers = {"Authorization": f"Bearer {SECRET}"}
    ok = await answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    wrong = await answer(b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\n" + SECRET.encode())
    hanging = f"http://127.0.0.1:{await talk(silent)}/"
    return ProbeCase(
        make(type="http_response", url=ok),
        make(type="http_response", url=wrong, headers=headers),
        make(type="http_response", url=hanging, timeout="500ms"),
        SECRET,
    )


async def database_connection(make: Any, talk: Any, answer: Any, port: int, request: Any) -> ProbeCase:
    kind = "database_connection"
    redis = request.getfixturevalue("redis_port")
    return ProbeCase(
        make(type=kind, dsn=f"redis://:{SECRET}@127.0.0.1:{redis}/0"),
        make(type=kind, dsn=f"redis://:{SECRET}@127.0.0.1:{port}/0"),
        make(type=kind, dsn=f"redis://:{SECRET}@127.0.0.1:{await talk(silent)}/0", timeout="500ms"),
        SECRET,
    )


async def tcp(make: Any, talk: Any, answer: Any, port: int, request: Any) -> ProbeCase:
    return ProbeCase(
        make(type="tcp", address=f"127.0.0.1:{await talk(silent)}"),
        make(type="tcp", address=f"127.0.0.1:{await talk(closing)}", send=SECRET, answer_matches="^220"),
        make(type="tcp", address=f"127.0.0.1:{await talk(silent)}", answer_matches="^220", timeout="500ms"),
        SECRET,
    )


async def custom(make: Any, talk: Any, answer: Any, port: int, request: Any) -> ProbeCase:
    def python(code: str) -> list[str]:
        return [sys.executable, "-c", code]

    return ProbeCase(
        make(type="custom", command=["true"]),
        make(type="custom", command=["/bin/sh", "-c", 'echo "$PASSWORD" >&2; exit 3'], env={"PASSWORD": SECRET}),
        make(type="custom", command=python("import time; time.sleep(60)"), timeout="500ms"),
        SECRET,
    )


CASES = {"http_response": http_response, "database_connection": database_connection, "tcp": tcp, "custom": custom}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", PROBES.names)
async def test_contract(
    name: str, law: Law, make: Any, talk: Any, answer: Any, port: int, request: pytest.FixtureRequest
) -> None:
    assert name in CASES, f"add a case for the check type {name} to {__file__}"
    await law(await CASES[name](make, talk, answer, port, request))
