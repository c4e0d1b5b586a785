"""`python -m benchmarks.sender FILE URL`: posts bodies as Alertmanager does, in a process of its own.

FILE has one body per line. Without `--rate` all are posted at once. A body that is answered 5xx, or not at all, is
posted again: half a second later, then after pauses that grow by half, as Alertmanager does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

_FIRST_PAUSE, _GROWTH = 0.5, 1.5
_GIVES_UP = 180.0
"""Seconds from the start."""


class Sender:
    """Posts each body until it is accepted, over connections that are kept."""

    def __init__(self, url: str, connections: int) -> None:
        self._address = urlsplit(url)
        self._places = asyncio.Semaphore(connections)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.answers: Counter[str] = Counter()
        self.began = time.monotonic()
        self.waits: list[float] = []
        """Seconds from the first attempt of each body until it was accepted."""
        self.answer_times: list[float] = []
        """Seconds that each attempt took, whatever its answer."""

    async def deliver(self, body: bytes) -> None:
        first, pause = time.monotonic(), _FIRST_PAUSE
        while time.monotonic() - self.began < _GIVES_UP:
            status = await self._post(body)
            self.answers[status] += 1
            if status == "202":
                self.waits.append(time.monotonic() - first)
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause *= _GROWTH

    async def _post(self, body: bytes) -> str:
        async with self._places:
            began = time.monotonic()
            try:
                reader, writer = self._idle.pop() if self._idle else await self._connect()
                head = f"POST {self._address.path} HTTP/1.1\r\nHost: {self._address.netloc}\r\n"
                head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0]))
            except (OSError, asyncio.IncompleteReadError):
                return "no answer"
            self.answer_times.append(time.monotonic() - began)
            if b"connection: close" in answer:
                writer.close()
            else:
                self._idle.append((reader, writer))
            return answer[9:12].decode()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._address.hostname, self._address.port)

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def _send(bodies: list[bytes], url: str, rate: float, connections: int) -> dict[str, object]:
    sender = Sender(url, connections)
    loop = asyncio.get_running_loop()
    sent, began = [], loop.time()
    for number, body in enumerate(bodies):
        if rate:
            await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
        sent.append(asyncio.create_task(sender.deliver(body)))
    offered = loop.time() - began
    await asyncio.gather(*sent)
    took = loop.time() - began
    sender.close()
    return {
        "bodies": len(bodies),
        "accepted": len(sender.waits),
        "answers": dict(sender.answers),
        "offered": offered,
        "took": took,
        "waits": [round(wait, 4) for wait in sorted(sender.waits)],
        "answer_times": [round(wait, 4) for wait in sorted(sender.answer_times)],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=0.0, help="bodies a second")
    parser.add_argument("--connections", type=int, default=100)
    args = parser.parse_args()
    bodies = args.file.read_bytes().splitlines()
    print(json.dumps(asyncio.run(_send(bodies, args.url, args.rate, args.connections))))


if __name__ == "__main__":
    main()
