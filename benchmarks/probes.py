"""What one probe costs the exporters and blackbox_exporter: the same targets, the same scrapes, in turns on loopback.

    python -m benchmarks.probes [--quick] [--beside CHECKOUT]

Each round starts every exporter anew and measures:
- burst: probes of one kind, ten at a time; probes per second of the exporter's CPU time
- pace: 1,000 checks at 15 s, which are 66.7 probes a second; latency of the scrapes as Prometheus sees it
- hung: the same pace while 200 targets accept and never answer; the memory is taken then
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks.aims import aim
from benchmarks.contestants import HERE
from benchmarks.probe_targets import Targets, targets
from benchmarks.processes import Server, free_port, program
from benchmarks.report import Table, main

CHECKS, INTERVAL, HUNG, AT_ONCE, TIMEOUT = 1000, 15.0, 200, 10, 5.0
KINDS = ("http", "name", "tcp", "https")
_BLACKBOX = "prometheus-blackbox-exporter"
_SERVE = "import sys; from exporters.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Exporter:
    """One exporter, and the path of its probe number `n` of a kind."""

    name: str
    start: Callable[[Path, Targets], Server]
    path: Callable[[Targets, str, int], str]


class Scraper:
    """Keeps connections to one exporter, as Prometheus does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def scrape(self, path: str) -> tuple[float, bytes]:
        """Seconds and body of one scrape."""
        began = time.perf_counter()
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: {TIMEOUT}\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"content-length:" in head:
            body = await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        else:
            body = b""
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        self._idle.append((reader, writer))
        return time.perf_counter() - began, body

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


def run(quick: bool, beside: Path | None) -> list[Table]:
    rounds, probes, seconds = (1, 1000, 4.0) if quick else (3, 2000, 8.0)
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-probes-") as name, targets(Path(name)) as served:
        for _ in range(rounds):
            for exporter in exporters(beside):
                figures = _measure(exporter, Path(name), served, probes, seconds)
                found.setdefault(exporter.name, []).append(figures)
    return [_table(found)]


def exporters(beside: Path | None) -> list[Exporter]:
    """All of them; with another checkout, its exporters are measured in the same rounds."""

    def ours(name: str, checkout: Path) -> Exporter:
        return Exporter(
            name, lambda *where: _start_ours(checkout, *where), lambda _, kind, n: f"/probe?check={kind}{n}"
        )

    before = [ours(f"exporters in {beside.name}", beside.resolve())] if beside is not None else []
    return [ours("exporters", HERE), *before, Exporter("blackbox_exporter", _start_blackbox, _blackbox_path)]


def _address(served: Targets, kind: str) -> str:
    port = {"https": served.tls, "hung": served.hung}.get(kind, served.plain)
    return f"{'localhost' if kind == 'name' else '127.0.0.1'}:{port}"


def _start_ours(checkout: Path, directory: Path, served: Targets) -> Server:
    port, config = free_port(), directory / "exporters.yml"
    amounts = {"http": CHECKS, "hung": HUNG, "name": AT_ONCE, "tcp": AT_ONCE, "https": AT_ONCE}
    checks: list[dict[str, object]] = []
    for kind, n in ((kind, n) for kind, amount in amounts.items() for n in range(amount)):
        check: dict[str, object] = {"id": f"{kind}{n}", "service": "s", "environment": "bench", "timeout": "10s"}
        if kind == "tcp":
            check |= {"type": "tcp", "address": _address(served, kind)}
        else:
            scheme = "https" if kind == "https" else "http"
            check |= {"type": "http_response", "url": f"{scheme}://{_address(served, kind)}/{n}"}
        if kind == "https":
            check["tls"] = {"insecure_skip_verify": True}
        checks.append(check)
    config.write_text(json.dumps({"listen": f"127.0.0.1:{port}", "checks": checks}))
    return Server.start(
        [sys.executable, "-c", _SERVE, "serve", "--config", str(config)],
        port=port,
        ready="/-/ready",
        log=directory / "exporters.log",
        cwd=checkout,
        env={"PYTHONPATH": str(checkout)},
    )


def _start_blackbox(directory: Path, served: Targets) -> Server:
    port, config = free_port(), directory / "blackbox.yml"
    http = {"preferred_ip_protocol": "ip4", "follow_redirects": False, "tls_config": {"insecure_skip_verify": True}}
    modules = {
        "http": {"prober": "http", "timeout": "10s", "http": http},
        "tcp": {"prober": "tcp", "timeout": "10s", "tcp": {"preferred_ip_protocol": "ip4"}},
    }
    config.write_text(json.dumps({"modules": modules}))
    listen = f"--web.listen-address=127.0.0.1:{port}"
    return Server.start(
        [program(_BLACKBOX), f"--config.file={config}", listen, "--log.level=error"],
        port=port,
        ready="/-/healthy",
        log=directory / "blackbox.log",
        cwd=directory,
        env={"GOMAXPROCS": "1"},  # one core, as the exporters: its collector would use the other one as well
    )


def _blackbox_path(served: Targets, kind: str, n: int) -> str:
    if kind == "tcp":
        return f"/probe?module=tcp&target={_address(served, kind)}"
    return f"/probe?module=http&target={'https' if kind == 'https' else 'http'}://{_address(served, kind)}/{n}"


def _measure(exporter: Exporter, directory: Path, served: Targets, probes: int, seconds: float) -> dict[str, float]:
    server = exporter.start(directory, served)
    try:
        return asyncio.run(_measured(exporter, server, served, probes, seconds))
    finally:
        server.stop()


async def _measured(
    exporter: Exporter, server: Server, served: Targets, probes: int, seconds: float
) -> dict[str, float]:
    scraper, figures = Scraper(server.port), {"idle": server.weight().rss}

    def path(kind: str, checks: int = CHECKS) -> Callable[[int], str]:
        return lambda n: exporter.path(served, kind, n % checks)

    for kind in KINDS:
        each = path(kind, CHECKS if kind == "http" else AT_ONCE)
        await _burst(scraper, each, AT_ONCE)  # imports and connections that are kept
        before = server.cpu_seconds()
        await _burst(scraper, each, probes)
        figures[kind] = probes / (server.cpu_seconds() - before)
    before, began = server.cpu_seconds(), time.perf_counter()
    latencies = await _pace(scraper, path("http"), seconds)
    figures["share"] = (server.cpu_seconds() - before) / (time.perf_counter() - began) * 100
    figures["p50"], figures["p99"] = _quantiles(latencies)
    hanging = [asyncio.create_task(scraper.scrape(path("hung")(n))) for n in range(HUNG)]
    await asyncio.sleep(0.5)
    latencies = await _pace(scraper, path("http"), min(seconds, TIMEOUT - 1.5))
    figures["hung p50"], figures["hung p99"] = _quantiles(latencies)
    figures["memory"] = server.weight().rss
    answers = await asyncio.gather(*hanging)
    figures["in time"] = sum(1 for took, body in answers if took < TIMEOUT and b"probe_success 0" in body)
    scraper.close()
    return figures


async def _burst(scraper: Scraper, path: Callable[[int], str], probes: int) -> None:
    numbers = count()

    async def work() -> None:
        while (n := next(numbers)) < probes:
            _, body = await scraper.scrape(path(n))
            assert b"probe_success 1" in body, body

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def _pace(scraper: Scraper, path: Callable[[int], str], seconds: float) -> list[float]:
    """Latencies of the probes of 1,000 checks spread evenly over 15 s, for so many seconds."""
    gap, tasks, began = INTERVAL / CHECKS, [], time.perf_counter()
    for n in range(int(seconds / gap)):
        await asyncio.sleep(max(0.0, began + n * gap - time.perf_counter()))
        tasks.append(asyncio.create_task(scraper.scrape(path(n))))
    answers = await asyncio.gather(*tasks)
    assert all(b"probe_success 1" in body for _, body in answers), "a healthy target was called down"
    return [latency for latency, _ in answers]


def _quantiles(latencies: Sequence[float]) -> tuple[float, float]:
    """The middle and the 99th percentile, in milliseconds."""
    return statistics.median(latencies) * 1e3, statistics.quantiles(latencies, n=100)[98] * 1e3


ROWS = (
    ("http", "probes per CPU second: HTTP"),
    ("name", "HTTP, target by name"),
    ("tcp", "TCP"),
    ("https", "HTTPS"),
    ("share", "1,000 checks at 15 s: CPU, % of a core"),
    ("p50", "scrape p50, ms"),
    ("p99", "scrape p99, ms"),
    ("hung p50", "beside 200 hung targets: scrape p50, ms"),
    ("hung p99", "scrape p99, ms"),
    ("in time", "hung targets that failed within the scrape"),
    ("memory", "memory meanwhile, MiB"),
    ("idle", "memory after start, MiB"),
)


def _table(found: dict[str, list[dict[str, float]]]) -> Table:
    names, load = [name for name in found if name != "blackbox_exporter"], os.getloadavg()[0]
    table = Table("probes", ["", *found, *(f"ratio: {name}" for name in names)])
    ours, theirs = found["exporters"], found["blackbox_exporter"]

    def ratio(rounds: list[dict[str, float]], key: str) -> float:
        return statistics.median(a[key] / b[key] for a, b in zip(rounds, theirs, strict=True))

    for key, label in ROWS:
        values = [f"{statistics.median(figures[key] for figures in rounds):.4g}" for rounds in found.values()]
        table.add(label, *values, *(f"{ratio(found[name], key):.2f}" for name in names))
    table.figures = {
        name: {key: [figures[key] for figures in rounds] for key, _ in ROWS} for name, rounds in found.items()
    }
    table.aims = [
        aim("probes per CPU second", ratio(ours, "http")),
        aim("CPU of 1,000 checks at 15 s", ratio(ours, "share")),
        aim("memory of 1,000 checks", ratio(ours, "memory")),
    ]
    table.notes.append(f"medians of {len(ours)} rounds; ratios to blackbox_exporter; load {load:.1f} at the end")
    return table


if __name__ == "__main__":
    main(run)
