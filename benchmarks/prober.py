"""`python -m benchmarks.prober URL ROUTE…`: how soon routes answer, measured in a process of its own until stdin ends.

Each request has its own connection, as a kubelet's or a person's has.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit

ROUTES = {
    "healthy": ("GET /-/healthy", 0.025),
    "ready": ("GET /-/ready", 0.05),
    "metrics": ("GET /metrics", 0.25),
    "fastapi": ("GET /ready", 0.025),
    "stop": ("POST /api/v1/executions/all/stop", 0.1),
}
"""Request and seconds between two of them."""

_RELEASE = "POST /api/v1/executions/all/close"
_WITHIN = 60.0


async def _ask(url: str, request: str) -> tuple[str, float]:
    """The status, and seconds until the whole answer was there."""
    address, (method, path) = urlsplit(url), request.split()
    body = b'{"reason": "benchmark"}' if method == "POST" else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    began = time.monotonic()
    try:
        async with asyncio.timeout(_WITHIN):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(head.encode() + body)
            answer = await reader.read()
            writer.close()
    except (OSError, TimeoutError):
        answer = b""
    return answer[9:12].decode() or "none", time.monotonic() - began


async def _probe(url: str, route: str, over: asyncio.Event) -> dict[str, object]:
    request, every = ROUTES[route]
    times: list[float] = []
    failed: list[str] = []
    due = asyncio.get_running_loop().time()
    while not over.is_set():
        status, took = await _ask(url, request)
        times.append(round(took, 4))
        if not status.startswith("2"):
            failed.append(status)
        if route == "stop":
            await _ask(url, _RELEASE)
        due += every
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
    return {"times": sorted(times), "failed": failed}


async def _main(url: str, routes: list[str]) -> None:
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(sys.stdin, over.set)  # its end
    print("began", flush=True)
    found = await asyncio.gather(*(_probe(url, route, over) for route in routes))
    print(json.dumps(dict(zip(routes, found, strict=True))))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2:]))
