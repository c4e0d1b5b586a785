"""From the webhook sent to the first act: how soon the `current` link of a service points to the good release."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.aims import aim
from benchmarks.bodies import body
from benchmarks.contestants import Contestant, contestants
from benchmarks.links import Watcher
from benchmarks.monitoring import fire, surrounded
from benchmarks.report import Table, main, ms

_WARM = 5
_PACES = {"idle": 8.0, "50 a second": 50.0}
"""Webhooks a second. At 8 each is over and verified long before the next one comes."""
_CPU = "CPU"
_TITLES = {
    "first": "first act: the first one of a fresh process",
    _CPU: "CPU from the webhook to the end of the verification, 8 a second",
}


def run(quick: bool, beside: Path | None) -> list[Table]:
    rounds, counts = (1, (16, 60)) if quick else (4, (40, 200))
    everyone = contestants(beside)
    taken: dict[tuple[str, str], list[list[float]]] = {}
    for number in range(rounds):
        for contestant in everyone[number % len(everyone) :] + everyone[: number % len(everyone)]:
            for pace, times in _one_round(contestant, counts).items():
                taken.setdefault((contestant.name, pace), []).append(times)
    return [
        _table(pace, {contestant.name: taken[contestant.name, pace] for contestant in everyone})
        for pace in ("first", *_PACES, _CPU)
    ]


def _one_round(contestant: Contestant, counts: tuple[int, ...]) -> dict[str, list[float]]:
    names = [f"svc-{n:03d}" for n in range(_WARM + sum(counts))]
    with surrounded(names, acts=True) as (site, alert_server):
        server = contestant.start(site)
        try:
            bodies = {service: body(alerts).encode() for service, alerts in fire(alert_server, names).items()}
            with Watcher(site.root, names) as watcher:
                sent: dict[str, int] = {}
                left = list(names)
                cost: list[float] = []
                for count, pace in zip((_WARM, *counts), (_PACES["idle"], *_PACES.values()), strict=True):
                    now, left, busy = left[:count], left[count:], server.cpu_seconds()
                    sent |= asyncio.run(_post(server.url + contestant.path, {s: bodies[s] for s in now}, pace))
                    cost.append((server.cpu_seconds() - busy) / count * 1e3)
                acts = watcher.acts(len(names))
            lazy = [service for service in names if service not in acts or site.live(service) != "1"]
            if lazy:
                raise AssertionError(f"{contestant.name}: {len(lazy)} links were not switched, such as {lazy[0]}")
        finally:
            server.stop()
    took = [(acts[service] - sent[service]) / 1e6 for service in names]
    idle = _WARM + counts[0]
    times = took[:1], took[_WARM:idle], took[idle:], cost[1:2]
    return dict(zip(("first", *_PACES, _CPU), times, strict=True))


async def _post(url: str, bodies: Mapping[str, bytes], pace: float) -> dict[str, int]:
    """Posts at a steady pace, whether or not the earlier ones are answered; returns when each was sent."""
    loop, sent, under_way = asyncio.get_running_loop(), {}, []
    idle: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.LifoQueue()
    address = urlsplit(url)
    for _ in range(16):
        idle.put_nowait(await asyncio.open_connection(address.hostname, address.port))

    async def post(service: str, content: bytes) -> None:
        head = f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        reader, writer = await idle.get()
        sent[service] = time.monotonic_ns()
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not answer.startswith((b"http/1.1 200", b"http/1.1 202")):
            raise AssertionError(f"{service}: {answer!r}")
        await reader.readexactly(int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0]))
        idle.put_nowait((reader, writer))

    began = loop.time()
    for number, (service, content) in enumerate(bodies.items()):
        await asyncio.sleep(began + number / pace - loop.time())
        under_way.append(asyncio.create_task(post(service, content)))
    await asyncio.gather(*under_way)
    await asyncio.sleep(1 / pace)
    while not idle.empty():
        idle.get_nowait()[1].close()
    return sent


def _table(what: str, taken: dict[str, list[list[float]]]) -> Table:
    title = _TITLES.get(what, f"first act: webhooks sent {what}")
    table = Table(title, ["", "p50 ms", "p99 ms", "worst ms", "acts"])
    for name, rounds in taken.items():
        middle, late = (statistics.median(_at(part, times) for times in rounds) for part in (0.5, 0.99))
        worst = max(max(times) for times in rounds)
        table.add(name, ms(middle), ms(late), ms(worst), str(sum(map(len, rounds))))
        table.figures[name] = {"p50": middle, "p99": late, "worst": worst}
    ours = table.figures["responder"]
    if what == "first":
        table.aims.append(aim("first act of a fresh process", ours["p50"]))
    elif what == _CPU:
        table.aims.append(aim("CPU per rollback", ours["p50"]))
    else:
        theirs = table.figures["FastAPI handler"]
        table.aims += [aim(f"first act, {what}, {part}", ours[part] / theirs[part]) for part in ("p50", "p99")]
    return table


def _at(part: float, times: Sequence[float]) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


if __name__ == "__main__":
    main(run)
