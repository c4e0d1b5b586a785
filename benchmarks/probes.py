"""What one probe costs us and blackbox_exporter: the same targets, the same scrapes, one after the other on loopback.

    python benchmarks/probes.py [--probes 1500] [--seconds 8] [--output json]

Three measurements per exporter, each bounded:
- burst: `--probes` probes, ten at a time; checks per second of the exporter's CPU time
- pace: 1,000 checks at 15 s (66.7 probes a second) for `--seconds`; scrape latency as Prometheus sees it, so with the
  target's own part, well under a millisecond
- hung: the same pace while 200 targets accept and never answer
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

BLACKBOX = "/usr/bin/prometheus-blackbox-exporter"
CHECKS, INTERVAL, HUNG, AT_ONCE, TIMEOUT = 1000, 15.0, 200, 10, 5.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@dataclass
class Figures:
    """Of one exporter. Seconds, bytes."""

    name: str
    checks_per_cpu_second: float
    memory_bytes: int
    pace_cpu_share: float
    pace_p50: float
    pace_p99: float
    hung_p50: float
    hung_p99: float
    hung_failed_in_time: int


class Target(asyncio.Protocol):
    """Answers whatever it is asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self.transport, asyncio.WriteTransport)
        self.transport.write(ANSWER)
        self.transport.close()


def targets(ports: Connection) -> None:
    """Serve a healthy and a hung port until killed; tell both."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        healthy = await loop.create_server(Target, "127.0.0.1", 0, backlog=1024)
        hung = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog=1024)
        ports.send((healthy.sockets[0].getsockname()[1], hung.sockets[0].getsockname()[1]))
        await asyncio.sleep(600)

    asyncio.run(run())


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


@contextmanager
def started(argv: list[str], port: int) -> Iterator[psutil.Process]:
    """A process that listens on that port, stopped at the end."""
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(5)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def paced(scraper: Scraper, path: Callable[[int], str], seconds: float) -> list[float]:
    """Latencies of the probes of 1,000 checks spread evenly over 15 s, for so many seconds."""
    gap, tasks, began = INTERVAL / CHECKS, [], time.perf_counter()
    for n in range(int(seconds / gap)):
        await asyncio.sleep(max(0.0, began + n * gap - time.perf_counter()))
        tasks.append(asyncio.create_task(scraper.scrape(path(n % CHECKS))))
    answers = await asyncio.gather(*tasks)
    assert all(b"probe_success 1" in body for _, body in answers), "a healthy target was called down"
    return [latency for latency, _ in answers]


async def measured(
    name: str,
    process: psutil.Process,
    port: int,
    paths: tuple[Callable[[int], str], Callable[[int], str]],
    args: argparse.Namespace,
) -> Figures:
    """All three measurements of one exporter."""
    good, hung = paths
    scraper = Scraper(port)
    queue = iter(range(args.probes))

    async def worker() -> None:
        for n in queue:
            _, body = await scraper.scrape(good(n % CHECKS))
            assert b"probe_success 1" in body, body

    await asyncio.gather(*(scraper.scrape(good(n)) for n in range(AT_ONCE)))
    before = cpu(process)
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    per_cpu_second = args.probes / (cpu(process) - before)

    before, began = cpu(process), time.perf_counter()
    pace = await paced(scraper, good, args.seconds)
    share = (cpu(process) - before) / (time.perf_counter() - began)

    hanging = [asyncio.create_task(scraper.scrape(hung(n))) for n in range(HUNG)]
    await asyncio.sleep(0.5)
    beside = await paced(scraper, good, min(args.seconds, TIMEOUT - 1.5))
    memory = process.memory_info().rss
    answers = await asyncio.gather(*hanging)
    in_time = sum(1 for latency, body in answers if latency < TIMEOUT and b"probe_success 0" in body)
    scraper.close()
    return Figures(name, per_cpu_second, memory, share, *quantiles(pace), *quantiles(beside), in_time)


def quantiles(latencies: list[float]) -> tuple[float, float]:
    return statistics.median(latencies), statistics.quantiles(latencies, n=100)[98]


def ours(folder: Path, healthy: int, hung: int) -> tuple[list[str], int]:
    port = free_port()
    common = {"service": "s", "environment": "bench", "type": "http_response", "interval": "15s", "timeout": "10s"}
    checks = [{"id": f"c{n}", **common, "url": f"http://127.0.0.1:{healthy}/{n}"} for n in range(CHECKS)]
    checks += [{"id": f"h{n}", **common, "url": f"http://127.0.0.1:{hung}/{n}"} for n in range(HUNG)]
    (folder / "exporters.yml").write_text(json.dumps({"listen": f"127.0.0.1:{port}", "checks": checks}))
    command = "import sys; from exporters.cli import main; sys.exit(main())"
    return [sys.executable, "-c", command, "serve", "--config", str(folder / "exporters.yml")], port


def theirs(folder: Path) -> tuple[list[str], int]:
    port = free_port()
    http = {"preferred_ip_protocol": "ip4", "follow_redirects": False}
    module = {"modules": {"http": {"prober": "http", "timeout": "10s", "http": http}}}
    (folder / "blackbox.yml").write_text(json.dumps(module))
    return [
        BLACKBOX,
        f"--config.file={folder}/blackbox.yml",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ], port


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probes", type=int, default=1500)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--output", choices=["text", "json"], default="text")
    args = parser.parse_args()
    # One core each for the exporter and for the rest, so that neither is measured waiting for the other.
    os.environ["GOMAXPROCS"] = "1"
    receiver, sender = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=targets, args=(sender,), daemon=True)
    server.start()
    healthy, hung = receiver.recv()
    found, load = [], os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        argv, port = ours(Path(name), healthy, hung)
        with started(argv, port) as process:
            paths = (lambda n: f"/probe?check=c{n}", lambda n: f"/probe?check=h{n}")
            found.append(asyncio.run(measured("exporters", process, port, paths, args)))
        if shutil.which(BLACKBOX):
            argv, port = theirs(Path(name))
            url = "/probe?module=http&target=http://127.0.0.1"
            with started(argv, port) as process:
                paths = (lambda n: f"{url}:{healthy}/{n}", lambda n: f"{url}:{hung}/{n}")
                found.append(asyncio.run(measured("blackbox_exporter", process, port, paths, args)))
    server.terminate()
    server.join()
    show(found, as_json=args.output == "json")
    # Latencies of a few milliseconds are the scheduler's, not ours, once others want the cores too.
    print(f"load average before: {load:.2f} on {os.cpu_count()} cores", file=sys.stderr)
    return 0


def show(found: list[Figures], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(figures) for figures in found], indent=2))
        return
    rows = (
        ("checks per CPU-second", "checks_per_cpu_second", 1, "{:.0f}"),
        ("memory, MiB", "memory_bytes", 2**-20, "{:.1f}"),
        ("1,000 checks at 15 s: CPU, % of a core", "pace_cpu_share", 100, "{:.1f}"),
        ("  scrape p50, ms", "pace_p50", 1e3, "{:.2f}"),
        ("  scrape p99, ms", "pace_p99", 1e3, "{:.2f}"),
        ("beside 200 hung targets: scrape p50, ms", "hung_p50", 1e3, "{:.2f}"),
        ("  scrape p99, ms", "hung_p99", 1e3, "{:.2f}"),
        ("  of 200 hung, failed within the scrape", "hung_failed_in_time", 1, "{:.0f}"),
    )
    print(
        f"{'':42}" + "".join(f"{figures.name:>20}" for figures in found) + (f"{'ratio':>8}" if len(found) > 1 else "")
    )
    for label, field, unit, form in rows:
        values = [getattr(figures, field) * unit for figures in found]
        ratio = f"{values[0] / values[1]:>8.2f}" if len(values) > 1 and values[1] else ""
        print(f"{label:42}" + "".join(f"{form.format(value):>20}" for value in values) + ratio)


if __name__ == "__main__":
    sys.exit(main())
