"""The scenarios on real processes with real clocks: responder, Prometheus, Alertmanager; a minute takes 2 s."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from foundation.durations import format_duration, parse_duration
from responder.backends.alertmanager.matchers import parse_matchers
from responder.runtime.collateral import AUTHOR
from tests import parts
from tests.acceptance.stage import ResponderProcess
from tests.scenarios.scenario import Expect, Observation, Scenario, mistakes
from tests.scenarios.simulated import SimulatedRunner

FASTER = 30
SHORTEST = {"for": 2.0, "within": 6.0, "interval": 2.0, "ready_for": 4.0}
DURATIONS = {"cooldown", "deployed_within", "for", "within", "approve_within", "interval", "soak", "ready_for"}
PATIENCE = 60.0  # seconds to wait for the expected state; it usually takes a few
AND_NOTHING_MORE = 3.0
WATCHDOG = "RollbackAutomationArmed"
SHIPPED = Path(__file__).parents[2] / "alert_rules" / "availability.yml"


def faster(document: Any) -> Any:
    """A configuration with shortened durations, none below the minimum that real processes need."""
    if isinstance(document, list):
        return [faster(item) for item in document]
    if not isinstance(document, dict):
        return document
    return {key: _faster(key, value) if key in DURATIONS else faster(value) for key, value in document.items()}


def _faster(key: str, text: str) -> str:
    seconds = parse_duration(text)
    return text if seconds == 0 else format_duration(max(seconds / FASTER, SHORTEST.get(key, 1.0)))


def shipped(name: str) -> str:
    """The rules of ServiceFailing for an alert of this name, over a minute; they tolerate four missed scrapes."""
    [group] = yaml.safe_load(SHIPPED.read_text())["groups"]
    of_it = [
        rule for rule in group["rules"] if "ServiceFailing" in json.dumps(rule) or "check:" in rule.get("record", "")
    ]
    text = yaml.safe_dump({"groups": [{"name": name, "rules": of_it}]}, width=1000)
    for before, now in (("ServiceFailing", name), ("[5m]", "[1m]"), ("[2m]", "[1200ms]")):
        assert before in text, before
        text = text.replace(before, now)
    return text


class RealTimeRunner(SimulatedRunner):
    """Acts that need an exact moment or a forged Alertmanager are not supported."""

    def __init__(self, directory: Path, scenario: Scenario) -> None:
        self._clock = asyncio.get_running_loop().time
        super().__init__(None, directory, scenario.given)  # type: ignore[arg-type]
        self._names = {name for step in scenario.timeline if step.act == "fires" for name in _alertnames(step.argument)}
        self._wanted: list[dict[str, str]] = []
        self._silences: list[str] = []
        self._scraped = True
        self._armed = scenario.given.watchdog is not None and scenario.given.watchdog_heard
        self._leaving = contextlib.AsyncExitStack()

    async def __aenter__(self) -> RealTimeRunner:
        for name in self._given.services:
            self._make_releases(name)
        ports = [parts.free_port() for _ in range(3)]
        app = web.Application()
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get("/responder/metrics", self._responder_page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._leaving.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", ports[0]).start()
        config = faster(self._configuration())
        config["prometheus"] = {"url": f"http://127.0.0.1:{ports[1]}"}
        config["alertmanager"] = {"urls": [f"http://127.0.0.1:{ports[2]}"]}
        config["limits"] = {**config["limits"], "lease": "2s"}
        self._responder = ResponderProcess(self._directory, "a", {k: v for k, v in config.items() if v is not None})
        self._leaving.push_async_callback(self._end)
        self._alertmanager = await self._leaving.enter_async_context(
            parts.alertmanager(self._directory, self._routes(), port=ports[2])
        )
        scraped: list[dict[str, Any]] = [{"job_name": "house", "honor_labels": True}]
        if self._given.recorded:
            scraped.append({"job_name": "responder", "metrics_path": "/responder/metrics"})
        for job in scraped:
            job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[0]}"]}]
        prometheus_config = {
            "global": {"scrape_interval": "300ms", "scrape_timeout": "300ms", "evaluation_interval": "300ms"},
            "scrape_configs": scraped,
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ports[2]}"]}]}]},
        }
        rules = {"house.rules": self._rules(), **{f"{name}.rules": shipped(name) for name in self._given.recorded}}
        # First, because it takes 5 s to look for its Alertmanager.
        self._prometheus = await self._leaving.enter_async_context(
            parts.prometheus(self._directory, yaml.safe_dump(prometheus_config), rules=rules, port=ports[1])
        )
        await self._responder.start()
        for name in self._given.services:
            for n, version in enumerate(self._given.good_before):
                days = timedelta(days=len(self._given.good_before) - n)
                await self._deploy(name, version, at=datetime.now(UTC) - days, status="good")
        if self._armed:
            while not (await self._request("GET", "/api/v1/status"))["armed"]:
                await asyncio.sleep(0.1)
        self._zero = self._clock()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leaving.aclose()

    async def _end(self) -> None:
        if self._responder.running:
            await self._responder.end(signal.SIGKILL)

    def _routes(self) -> str:
        hook = {"url": f"{self._responder.url}/api/v1/alerts", "send_resolved": True}
        route = {"group_by": ["..."], "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1s"}
        receivers = [{"name": "responder", "webhook_configs": [hook]}]
        return yaml.safe_dump({"route": {"receiver": "responder", **route}, "receivers": receivers})

    def _rules(self) -> str:
        """One rule per alert: it fires while its series exists, with the labels of the series."""
        plain = "max without (instance, job, wanted)"
        own = sorted(self._names.difference(self._given.recorded))
        rules = [{"alert": name, "expr": f'{plain} (wanted{{wanted="{name}"}})'} for name in own]
        rules.append({"alert": WATCHDOG, "expr": f"{plain} (armed)"})
        return yaml.safe_dump({"groups": [{"name": "house", "rules": rules}]})

    async def _metrics_page(self, _: web.Request) -> web.Response:
        lines = ["armed 1"] if self._armed else []
        for wanted in self._wanted:
            labels = {("wanted" if name == "alertname" else name): value for name, value in wanted.items()}
            lines.append(f"wanted{{{','.join(f'{name}={json.dumps(value)}' for name, value in labels.items())}}} 1")
        for service in self._given.services:
            for sample in self._healthy({"service": service}, datetime.now(UTC)):
                lines.append(f'healthy{{service="{service}"}} {sample.value}')
                probe = f'job="probes",service="{service}",environment="production",check_id="health"'
                lines.append(f"probe_success{{{probe}}} {sample.value}")
            lines.append(f'healthy{{service="{service}",part="idle"}} 1')
        return web.Response(text="\n".join([*lines, ""]))

    async def _responder_page(self, _: web.Request) -> web.Response:
        """A proxy between the two, which can fail."""
        if not self._scraped:
            return web.Response(status=503)
        try:
            answer = await self._responder.get("/metrics")
        except aiohttp.ClientError:  # not started yet
            return web.Response(status=502)
        return web.Response(status=answer.status, text=str(answer.body))

    # --- observation ---
    async def wait_until(self, second: float) -> None:
        await asyncio.sleep(max(0.0, self._zero + second / FASTER - self._clock()))

    def go_on_from(self, second: float) -> None:
        """Shifts the later steps if a step took longer than planned."""
        self._zero = max(self._zero, self._clock() - second / FASTER)

    async def see(self) -> Observation:
        found = (await self._request("GET", "/api/v1/executions?limit=1000"))["executions"]
        found.sort(key=lambda x: (x["service"], x["accepted_at"]))  # the order of simultaneous ones is undefined
        silences = await parts._call("GET", f"{self._alertmanager.url}/api/v2/silences")
        status = await self._request("GET", "/api/v1/status")
        return Observation(
            decisions=(await self._request("GET", "/api/v1/decisions?limit=1000"))["decisions"],
            executions=[await self._request("GET", f"/api/v1/executions/{x['id']}") for x in found],
            running={name: self._running(name) for name in self._given.services},
            deployed={s["service"]: s["version"] or "" for s in status["services"]},
            versions={name: await self._versions(name) for name in self._given.services},
            armed=status["armed"],
            would_have_acted={p["name"]: p["would_have_acted"] for p in status["policies"]},
            silences=sum(s["createdBy"] == AUTHOR and s["status"]["state"] == "active" for s in silences),
        )

    async def agree(self, expect: Expect) -> None:
        """Waits until the state is as expected, and checks that it stays so."""
        end = self._clock() + PATIENCE
        while wrong := mistakes(expect, seen := await self.see()):
            if self._clock() > end:
                raise AssertionError("\n  ".join([*wrong, *(f"{d['guard']}: {d['reason']}" for d in seen.decisions)]))
            await asyncio.sleep(0.2)

    async def _request(self, method: str, path: str, body: Any = None) -> Any:
        answer = await (self._responder.get(path) if method == "GET" else self._responder.post(path, body))
        self.answered = answer.status
        return answer.body

    # --- acts ---
    async def act_fires(self, argument: Any) -> None:
        for alert in argument if isinstance(argument, list) else [argument]:
            labels = self._fire(alert).labels
            if labels["alertname"] == "RollbackRequested":
                await asyncio.to_thread(self._amtool, labels, alert.get("annotations", {}))
            elif labels["alertname"] in self._given.recorded:
                await parts.until(partial(self._alertmanager.alerts, **labels))
            else:
                self._wanted.append(labels)

    def _amtool(self, labels: dict[str, str], annotations: dict[str, str]) -> None:
        arguments = [f"{name}={value}" for name, value in labels.items()]
        arguments += [f"--annotation={name}={json.dumps(value)}" for name, value in annotations.items()]
        amtool = parts.program("amtool") or "amtool"
        subprocess.run([amtool, f"--alertmanager.url={self._alertmanager.url}", "alert", "add", *arguments], check=True)

    async def act_fires_unsent(self, argument: Any) -> None:
        """As `fires`, but a silence keeps Alertmanager from sending it."""
        await self.act_fires(argument)

    async def act_health(self, argument: dict[str, Any]) -> None:
        """Also waits until the last scrapes show it, if the rules record that."""
        await super().act_health(argument)
        for service in argument if self._given.recorded else ():
            sick = any(sample.value == 0 for sample in self._healthy({"service": service}, datetime.now(UTC)))
            promql = f'service_environment:trouble:now{{service="{service}"}}'
            await parts.until(partial(self._prometheus.query, promql), lambda found, sick=sick: bool(found) is sick)

    async def act_recorded_trouble(self, argument: dict[str, str]) -> None:
        """The rules record it from the results of the probes."""

    async def act_responder_scrapes(self, what: str) -> None:
        self._scraped = what == "succeed"
        for name in self._given.recorded:
            alerts = partial(self._alertmanager.alerts, alertname=name)
            await parts.until(alerts, lambda found: bool(found) is self._scraped)

    async def act_sent_again(self, argument: dict[str, Any]) -> None:
        """Alertmanager repeats by itself, every second."""

    async def act_resolves(self, argument: dict[str, Any]) -> None:
        wanted = {name: str(value) for name, value in argument.items()}
        self._wanted = [labels for labels in self._wanted if not wanted.items() <= labels.items()]

    async def act_silence(self, argument: dict[str, Any]) -> None:
        matchers = {m.name: m.value for text in argument["match"] for m in parse_matchers(text)}
        made = await self._alertmanager.silence(matchers, author=argument["by"], comment=argument.get("comment", ""))
        self._silences.append(made)

    async def act_expire_silences(self, argument: Any) -> None:
        for silence in self._silences:
            await self._alertmanager.expire(silence)

    async def act_watchdog(self, what: str) -> None:
        self._armed = what == "comes"

    async def act_crash(self, argument: Any) -> None:
        await self._responder.end(signal.SIGKILL)
        await self._responder.start()


def _alertnames(argument: Any) -> Iterator[str]:
    for alert in argument if isinstance(argument, list) else [argument]:
        if (name := alert.get("alertname", "Failing")) != "RollbackRequested":
            yield name


async def play(scenario: Scenario, directory: Path) -> None:
    """Runs a scenario. Raises AssertionError with every difference."""
    async with RealTimeRunner(directory, scenario) as real:
        for step in scenario.timeline:
            await real.wait_until(step.at)
            if step.act == "expect":
                await real.agree(Expect.model_validate(step.argument))
                real.go_on_from(step.at)
            elif step.act != "nothing":
                assert step.act in ACTS, f"{step.act} is not supported on real processes"
                await getattr(real, f"act_{step.act}")(step.argument)
                real.go_on_from(step.at)
        final = scenario.expect
        expected = final if final.rollbacks is not None else final.model_copy(update={"rollbacks": []})
        await real.agree(expected)
        await asyncio.sleep(AND_NOTHING_MORE)
        await real.agree(expected)


ACTS = {
    *("deploys", "fires", "fires_unsent", "sent_again", "resolves", "silence", "expire_silences", "watchdog", "crash"),
    *("marks", "moves", "health", "recorded_trouble", "responder_scrapes"),
    *("rollback", "approve", "stop", "close", "stop_file", "until"),
}
