"""Storms of alerts: how soon all are answered, whether other routes answer meanwhile, and what it costs in memory."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.aims import aim
from benchmarks.bodies import body
from benchmarks.contestants import HERE, Contestant, Site, contestants
from benchmarks.monitoring import fire, surrounded
from benchmarks.processes import Server
from benchmarks.report import Table, main, ms

_INSTANCES = 10
_BODIES = 100
_SMALL = 10
"""Services, each with one alert, that the large site is compared with."""
_REPEATS = 3
"""How often the flood sends each alert."""
_CALM = 3.0
"""Seconds between two measurements, for what is still under way."""


@dataclass(frozen=True)
class Size:
    services: int
    rate: int  # one-alert bodies a second


def run(quick: bool, beside: Path | None) -> list[Table]:
    size = Size(services=200, rate=200) if quick else Size(services=1000, rate=1000)
    everyone = [contestant for contestant in contestants(beside) if contestant.kind != "webhook"]
    storms, floods, costs = {}, {}, {}
    for contestant in everyone:
        with one_site(size.services, _INSTANCES) as (site, alerts), started(contestant, site) as server:
            storms[contestant.name] = _storm(contestant, server, site, alerts)
            if contestant.kind == "responder":
                costs[contestant.name] = {"large": cost(contestant, server, site, alerts, _bodies_of_one(alerts))}
            floods[contestant.name] = _flood(contestant, server, site, alerts, size.rate)
        if contestant.kind == "responder":
            with one_site(_SMALL, 1) as (site, alerts), started(contestant, site) as server:
                few = [body(flat(alerts))] * (size.services // _SMALL)
                costs[contestant.name]["small"] = cost(contestant, server, site, alerts, few)
    return [_storm_table(size, storms), _cost_table(size, costs), _flood_table(size, floods)]


Alerts = dict[str, list[dict[str, Any]]]
"""The alerts that fire in Alertmanager, by service."""


@contextmanager
def one_site(services: int, instances: int) -> Iterator[tuple[Site, Alerts]]:
    names = [f"svc-{n:04d}" for n in range(services)]
    with surrounded(names, limits={}) as (site, alert_server):
        yield site, fire(alert_server, names, instances)


@contextmanager
def started(contestant: Contestant, site: Site) -> Iterator[Server]:
    server = contestant.start(site)
    try:
        time.sleep(_CALM)
        yield server
    finally:
        server.stop()


def flat(alerts: Alerts) -> list[dict[str, Any]]:
    return [alert for of_service in alerts.values() for alert in of_service]


def _bodies(alerts: Alerts) -> list[str]:
    """All alerts in `_BODIES` bodies, those of one service in the same one."""
    names = sorted(alerts)
    per_body = max(len(names) // _BODIES, 1)
    groups = [names[n : n + per_body] for n in range(0, len(names), per_body)]
    return [body([alert for name in group for alert in alerts[name]]) for group in groups]


def _bodies_of_one(alerts: Alerts) -> list[str]:
    """One alert of each service, `_SMALL` in a body."""
    firsts = [of_service[0] for _, of_service in sorted(alerts.items())]
    return [body(firsts[n : n + _SMALL]) for n in range(0, len(firsts), _SMALL)]


def _storm(contestant: Contestant, server: Server, site: Site, alerts: Alerts) -> dict[str, Any]:
    idle, busy = server.weight().rss, server.cpu_seconds()
    bodies, routes = _bodies(alerts), ("healthy", "ready", "metrics")
    server.forget_peak()
    with _probing(server, routes if contestant.kind == "responder" else ("fastapi",)) as probed:
        sent = _send(contestant, server, site, bodies)
    found = {**sent, "cpu": server.cpu_seconds() - busy, "memory": server.peak() - idle, **probed}
    time.sleep(_CALM)
    found["kept"] = server.weight().rss - idle
    if contestant.kind == "responder":
        _all_on_record(contestant.journal(site), len(alerts))
        # Again, because the kill switch would make the other decisions cheap.
        with _probing(server, ("stop",)) as probed:
            _send(contestant, server, site, bodies)
        found |= probed
        time.sleep(_CALM)
    return found


def cost(contestant: Contestant, server: Server, site: Site, alerts: Alerts, bodies: Sequence[str]) -> float:
    """Milliseconds of CPU for one decision."""
    _send(contestant, server, site, bodies[:10])  # warm: what is imported late
    before = server.cpu_seconds()
    _send(contestant, server, site, bodies)
    return (server.cpu_seconds() - before) / (len(bodies) * _SMALL) * 1e3


def _flood(contestant: Contestant, server: Server, site: Site, alerts: Alerts, rate: int) -> dict[str, Any]:
    time.sleep(_CALM)
    by_turns = [alert for number in range(_INSTANCES) for alert in (found[number] for found in alerts.values())]
    bodies = [body([alert]) for alert in by_turns] * _REPEATS
    before, busy = _times(contestant.journal(site)), server.cpu_seconds()
    server.forget_peak()
    idle = server.weight().rss
    with _probing(server, ("healthy",) if contestant.kind == "responder" else ("fastapi",)) as probed:
        sent = _send(contestant, server, site, bodies, "--rate", str(rate), "--connections", "256")
    found = {**sent, "cpu": server.cpu_seconds() - busy, "memory": server.peak() - idle, **probed}
    if contestant.kind == "responder" and (kept := _times(contestant.journal(site)) - before) < sent["accepted"]:
        raise AssertionError(f"{sent['accepted']} bodies were accepted, but only {kept} are in the journal")
    return found


def _send(contestant: Contestant, server: Server, site: Site, bodies: Sequence[str], *more: str) -> dict[str, Any]:
    file = site.directory / "bodies"
    file.write_text("\n".join(bodies))
    argv = [sys.executable, "-m", "benchmarks.sender", str(file), server.url + contestant.path, *more]
    found: dict[str, Any] = json.loads(
        subprocess.run(argv, cwd=HERE, capture_output=True, text=True, check=True).stdout
    )
    return found


@contextmanager
def _probing(server: Server, routes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Asks the routes meanwhile. What it found is in the result afterwards."""
    found: dict[str, Any] = {}
    argv = [sys.executable, "-m", "benchmarks.prober", server.url, *routes]
    prober = subprocess.Popen(argv, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert prober.stdout is not None
        prober.stdout.readline()  # it has begun
        yield found
        found |= json.loads(prober.communicate()[0])
    finally:
        with contextlib.suppress(ProcessLookupError):
            prober.kill()
        prober.wait()


def _all_on_record(journal: Path, services: int) -> None:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT count(DISTINCT service) FROM decisions").fetchone()[0]
    if found != services:
        raise AssertionError(f"all bodies were accepted, but only {found} of {services} services are in the journal")


def _times(journal: Path) -> int:
    """How many decisions were made, repetitions included."""
    if not journal.exists():
        return 0
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT coalesce(sum(times), 0) FROM decisions").fetchone()[0])


def _late(route: dict[str, Any] | None, part: float = 0.99) -> float:
    """Milliseconds."""
    times = route["times"] if route else []
    return times[min(len(times) - 1, int(part * len(times)))] * 1e3 if times else float("nan")


def _storm_table(size: Size, storms: dict[str, dict[str, Any]]) -> Table:
    title = f"storm: {size.services * _INSTANCES} alerts of {size.services} services in {_BODIES} bodies at once"
    columns = ["", "all answered s", "answers", "CPU s", "healthy p99", "ready p99", "metrics p99", "stop p99 ms"]
    table = Table(title, [*columns, "peak MiB", "kept MiB"])
    for name, found in storms.items():
        late = [_late(found.get(route)) for route in ("healthy", "ready", "metrics", "stop")]
        if "fastapi" in found:
            late[0] = _late(found["fastapi"])
        answers = ", ".join(f"{status}: {n}" for status, n in sorted(found["answers"].items()))
        table.add(
            name, f"{found['took']:.1f}", answers, f"{found['cpu']:.1f}", *map(ms, late),
            f"+{found['memory']:.0f}", f"+{found['kept']:.0f}",
        )  # fmt: skip
        worst = {route: _late(found.get(route), 1.0) for route in ("healthy", "ready", "metrics", "stop")}
        table.figures[name] = {key: found[key] for key in ("took", "cpu", "memory", "kept")} | {"worst": worst}
        if name == "responder":
            table.aims += [aim("storm: all answered", found["took"])]
            table.aims += [
                aim(f"storm: {route} p99", value)
                for route, value in zip(("healthy", "ready", "metrics", "stop"), late, strict=True)
            ]
            table.aims += [aim("storm: memory above idle", found["memory"])]
    return table


def _cost_table(size: Size, costs: dict[str, dict[str, float]]) -> Table:
    title = "CPU per decision, 10 in a body, with the number of firing alerts and services"
    table = Table(
        title, ["", f"{_SMALL}, {_SMALL} (ms)", f"{size.services * _INSTANCES}, {size.services} (ms)", "ratio"]
    )
    for name, found in costs.items():
        ratio = found["large"] / found["small"]
        table.add(name, f"{found['small']:.2f}", f"{found['large']:.2f}", f"{ratio:.2f}")
        table.figures[name] = {**found, "ratio": ratio}
        if name == "responder":
            table.aims.append(aim("CPU per decision, large against small", ratio))
    return table


def _flood_table(size: Size, floods: dict[str, dict[str, Any]]) -> Table:
    bodies = size.services * _INSTANCES * _REPEATS
    title = f"flood: {bodies} one-alert bodies, {size.rate} a second, retried after 503"
    columns = ["", "offered in s", "all taken s", "taken", "answers", "answer p50", "p99 ms", "healthy p99 ms"]
    table = Table(title, [*columns, "CPU s", "peak MiB"])
    for name, found in floods.items():
        answers = ", ".join(f"{status}: {n}" for status, n in sorted(found["answers"].items()))
        times = {"times": found["answer_times"]}
        table.add(
            name,
            f"{found['offered']:.0f}",
            f"{found['took']:.0f}",
            f"{found['accepted']} of {found['bodies']}",
            answers,
            ms(_late(times, 0.5)),
            ms(_late(times)),
            ms(_late(found.get("healthy") or found.get("fastapi"))),
            f"{found['cpu']:.1f}",
            f"+{found['memory']:.0f}",
        )
        table.figures[name] = {key: found[key] for key in ("offered", "took", "accepted", "answers", "cpu", "memory")}
        if name == "responder":
            missing = found["accepted"] < found["bodies"]
            table.aims.append(aim("flood: all journaled", float("inf") if missing else found["took"]))
    return table


if __name__ == "__main__":
    main(run)
