"""A complete responder in one process and in virtual time; Alertmanager, Prometheus and the services are simulated."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from foundation.durations import parse_duration
from responder.app.settings import Config
from responder.backends.alertmanager.client import Alertmanager
from responder.backends.alertmanager.matchers import parse_matchers
from responder.backends.connections import Connections
from responder.backends.host.client import Local
from responder.backends.prometheus.client import Prometheus, Sample
from responder.decisions.policy_set import PolicySet
from responder.journal import Database, open_journal
from responder.runtime.collateral import AUTHOR
from responder.runtime.journal_state import JournalState
from responder.runtime.metrics import Metrics
from responder.runtime.worker import Worker
from responder.testing.resources import FixedConnections
from responder.web.access.access import Access
from responder.web.access.settings import WebSettings
from responder.web.deployments.deployments import Deployments
from responder.web.executions import Executions
from responder.web.http.server import routes
from responder.web.links.approve import ApprovalPage
from responder.web.links.signing import Links
from responder.web.links.stop import StopPage
from responder.web.process import Process
from responder.web.receiver import Receiver
from responder.web.reports import Reports
from responder.web.rollbacks import Rollbacks
from responder.web.status import Status
from responder.web.versions import Versions
from tests.journals import in_file
from tests.scenarios.outside import (
    FakeAlertmanager,
    FakePrometheus,
    FiringAlert,
    FlakyHost,
    PlacedSilence,
    Surroundings,
)
from tests.scenarios.scenario import Given, Observation
from tests.scenarios.virtual import VirtualLoop

VERSIONS = ("1.9", "2.0", "2.1", "2.2")


class SimulatedRunner:
    """Every act of the notation, through the responder's HTTP API where it has one."""

    def __init__(self, loop: VirtualLoop, directory: Path, given: Given) -> None:
        self._loop, self._directory, self._given = loop, directory, given
        self._outside = Surroundings(
            series={
                "healthy": self._healthy,
                "requests": self._requests,
                "trouble": self._trouble,
                "service_environment:trouble": self._recorded,
                "service_environment:trouble:now": self._recorded_now,
                "alertname:trouble:evaluation_timestamp": self._evaluated,
            }
        )
        self._health: dict[str, str] = {}
        self._traffic: dict[str, str] = {}
        self._troubled: dict[tuple[str, str], tuple[datetime, datetime | None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._working: asyncio.Task[None] | None = None
        self._broken_off: list[FiringAlert] = []

    # --- start and stop ---
    async def __aenter__(self) -> SimulatedRunner:
        for name in self._given.services:
            self._make_releases(name)
        self._config = self._configured()
        self._journal: Database = await open_journal(self._config.state)
        clients = {
            Alertmanager: FakeAlertmanager(self._outside),
            Prometheus: FakePrometheus(self._outside),
            Local: FlakyHost(self._outside),
        }
        self._connections = FixedConnections(clients)
        self._metrics = Metrics()
        self._start_worker()
        links = Links(WebSettings())
        process = Process(self._journal, self._policy_set, self._connect, self._worker)
        receiver = Receiver(process, self._metrics)
        executions = Executions(process, links.approve_link)
        rollbacks = Rollbacks(process, receiver)
        reports = Reports(process)
        state = JournalState(self._journal, self._policy_set)
        status = Status(self._journal, self._policy_set, self._worker, self._metrics, reports, state)
        self._parts = (receiver, rollbacks, executions, status, reports)
        access = Access(WebSettings())
        pages = (
            receiver,
            rollbacks,
            executions,
            status,
            reports,
            Versions(self._journal, self._policy_set),
            Deployments(self._journal, self._policy_set),
            ApprovalPage(self._journal, executions, lambda: links),
            StopPage(self._journal, lambda: links),
        )
        app = routes(lambda: access, pages)
        with self._loop.really():
            self._client: TestClient[Any, Any] = TestClient(TestServer(app))
            await self._client.start_server()
        await self._until_it_works()
        for name in self._given.services:
            for n, version in enumerate(self._given.good_before):
                days = timedelta(days=len(self._given.good_before) - n)
                await self._deploy(name, version, at=datetime.now(UTC) - days, status="good")
        if self._given.watchdog is not None and self._given.watchdog_heard:
            await self.act_watchdog("comes")
        self._zero = self._loop.time()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._watching, self._working):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        with self._loop.really():
            await self._client.close()
        await self._journal.close()

    def _start_worker(self) -> None:
        self._worker = Worker(
            self._journal,
            self._policy_set,
            self._connect,
            poll=5.0,
            concurrent=self._config.limits.concurrent,
            max_resumptions=self._config.limits.max_resumptions,
            listeners=(self._metrics.happened,),
            on_decided=self._metrics.decided,
        )
        self._working = asyncio.create_task(self._worker.run())

    async def _until_it_works(self) -> None:
        while not self._worker.has_lease:
            await asyncio.sleep(0.001)

    def _policy_set(self) -> PolicySet:
        return self._config.policy_set

    def _connect(self) -> Connections:
        return self._connections

    # --- setup ---
    def _root(self, service: str) -> Path:
        return self._directory / service

    def _make_releases(self, name: str) -> None:
        colors = ("blue", "green") if self._given.strategies.get(name) == "blue_green" else ("",)
        for color in colors:
            for version in VERSIONS:
                (self._root(name) / color / "releases" / version).mkdir(parents=True)

    def _rollback(self, name: str, strategy: str) -> dict[str, Any]:
        root = self._root(name)
        if strategy == "blue_green":
            ready = [{"promql": f'healthy{{service="{name}",part="idle"}}', "at_least": 1}]
            colors = {c: {"release": {"root": str(root / c)}, "ready": ready} for c in ("blue", "green")}
            pointer = {"file": str(root / "live")}
            return {"strategy": "blue_green", "pointer": pointer, "colors": colors, "ready_for": "30s"}
        return {"strategy": strategy, "release": {"root": str(root)}}

    def _configured(self, **changed: Any) -> Config:
        config = Config.model_validate_json(json.dumps(self._configuration(**changed)))
        assert [mistake for found in config.contradictions() for mistake in found()] == []
        return config

    def _configuration(self, **changed: Any) -> dict[str, Any]:
        given = self._given
        forced = {
            "name": "by-request",
            "match": ['alertname="RollbackRequested"'],
            "roll_back": {"label": "service"},
            "force": True,
            "verify": {"for": "1m", "within": "5m"},
        }
        usual = {
            "name": "failing",
            "match": ['alertname="Failing"'],
            "roll_back": {"label": "service"},
            "mode": "auto",
            "verify": {"for": "1m", "within": "5m"},
            **given.policy,
            **changed.get("policy", {}),
        }
        services = [
            {
                **_where(name, "name"),
                "depends_on": given.depends_on.get(name, []),
                "rollback": self._rollback(name, given.strategies.get(name, "immediate")),
                "alternatives": [self._rollback(name, s) for n, s in given.alternatives.items() if n == name],
                "health_checks": [{"promql": f'healthy{{service="{name}"}}', "at_least": 1}],
                "traffic_checks": [{"promql": f'requests{{service="{name}"}}', "above": 0}] if given.traffic else [],
                **given.service,
            }
            for name in given.services
        ]
        return {
            "state": in_file(self._directory),
            "prometheus": {"url": "http://prometheus:9090"},
            "alertmanager": {"urls": ["http://alertmanager:9093"]},
            "stop_file": str(self._directory / "STOP"),
            "limits": {**given.limits, **changed.get("limits", {})},
            "watchdog": given.watchdog,
            **({"evidence": {"base_directory": str(self._directory / "evidence")}} if "logs" in given.service else {}),
            "freezes": changed.get("freezes", given.freezes),
            "services": services,
            "policies": [*given.policies, forced, usual],
        }

    def _colors(self, service: str) -> tuple[str, str] | None:
        """The live color and the idle color."""
        if self._given.strategies.get(service) != "blue_green":
            return None
        live = self._root(service) / "live"
        return ("blue", "green") if live.exists() and live.read_text().strip() == "blue" else ("green", "blue")

    def _running(self, service: str) -> str:
        colors = self._colors(service)
        link = self._root(service) / (colors[0] if colors else "") / "current"
        return link.readlink().name if link.is_symlink() else ""

    def _put(self, service: str, version: str) -> None:
        """Deploys as a pipeline does: to the idle color and then the pointer, or in place."""
        colors = self._colors(service)
        _link(self._root(service) / (colors[1] if colors else ""), version)
        if colors:
            (self._root(service) / "live").write_text(colors[1])

    # --- series ---
    def _healthy(self, labels: dict[str, str], when: datetime) -> list[Sample]:
        service = labels["service"]
        if labels.get("part") == "idle":
            return [Sample(labels=labels, value=1.0)]
        value = self._health.get(service, "0" if self._running(service) in self._given.unhealthy else "1")
        return [] if value == "missing" else [Sample(labels=labels, value=float(value))]

    def _requests(self, labels: dict[str, str], when: datetime) -> list[Sample]:
        value = self._traffic.get(labels["service"], "10")
        return [] if value == "missing" else [Sample(labels=labels, value=float(value))]

    def _trouble(self, labels: dict[str, str], when: datetime) -> list[Sample]:
        return self._series("trouble", labels, when)

    def _recorded(self, labels: dict[str, str], when: datetime) -> list[Sample]:
        return self._series("recorded", labels, when)

    def _recorded_now(self, labels: dict[str, str], when: datetime) -> list[Sample]:
        """As `ServiceFailing` records it: the instant value of the checks. Past values are not supported."""
        names = [labels["service"]] if "service" in labels else self._given.services
        names = names if labels.get("alertname", "Failing") in self._given.recorded else []
        return [
            Sample(labels={"alertname": "Failing", "environment": "production", **labels, "service": name}, value=1.0)
            for name in names
            if any(sample.value == 0 for sample in self._healthy({"service": name}, when))
        ]

    def _evaluated(self, labels: dict[str, str], when: datetime) -> list[Sample]:
        names = [name for name in self._given.recorded if labels.get("alertname", name) == name]
        return [Sample(labels={"alertname": name}, value=when.timestamp()) for name in names]

    def _series(self, name: str, labels: dict[str, str], when: datetime) -> list[Sample]:
        return [
            Sample(labels={**labels, "service": service}, value=1.0)
            for (kind, service), (since, until) in self._troubled.items()
            if kind == name and labels.get("service", service) == service
            if since <= when and (until is None or when < until)
        ]

    # --- observation ---
    async def wait_until(self, second: float) -> None:
        await asyncio.sleep(max(0.0, self._zero + second - self._loop.time()))

    async def see(self) -> Observation:
        await asyncio.sleep(0.01)  # lets tasks that start at this moment proceed
        found = (await self._request("GET", "/api/v1/executions?limit=1000"))["executions"]
        found.sort(
            key=lambda x: (x["accepted_at"], x["service"], x["environment"])
        )  # many happen at the same moment here
        whole = [await self._request("GET", f"/api/v1/executions/{x['id']}") for x in found]
        now, status = datetime.now(UTC), await self._request("GET", "/api/v1/status")
        return Observation(
            decisions=(await self._request("GET", "/api/v1/decisions?limit=1000"))["decisions"],
            executions=whole,
            running={name: self._running(name) for name in self._given.services},
            deployed={s["service"]: s["version"] or "" for s in status["services"]},
            versions={name: await self._versions(name) for name in self._given.services},
            armed=status["armed"],
            would_have_acted={p["name"]: p["would_have_acted"] for p in status["policies"]},
            silences=sum(s.by == AUTHOR and now < s.ends_at for s in self._outside.silences),
        )

    async def _versions(self, service: str) -> dict[str, str]:
        name, _, environment = service.partition("@")
        found = await self._request("GET", f"/api/v1/versions/{name}?environment={environment or 'production'}")
        return {row["version"]: row["status"] for row in found["versions"]}

    async def _request(self, method: str, path: str, body: Any = None) -> Any:
        with self._loop.really():
            async with self._client.request(method, path, json=body) as response:
                self.answered = response.status
                return await response.json()

    async def _say(self, path: str, body: dict[str, Any], argument: dict[str, Any]) -> Any:
        """An operator's request; `answer` in the scenario is the expected status."""
        wanted = argument.get("answer")
        fields = {key: value for key, value in argument.items() if key != "answer"}
        answer = await self._request("POST", path, {"by": "alice", **body, **fields})
        right = self.answered == wanted if wanted else self.answered < 400
        assert right, f"POST {path} was answered {self.answered}: {answer}"
        return answer

    async def _newest(self, service: str = "") -> dict[str, Any]:
        query = f"?service={service}" if service else ""
        found: list[dict[str, Any]] = (await self._request("GET", f"/api/v1/executions{query}"))["executions"]
        assert found, "there is no rollback yet"
        return found[0]

    # --- deployments and versions ---
    async def _deploy(
        self, service: str, version: str, *, at: datetime | None = None, status: str | None = None
    ) -> None:
        self._put(service, version)
        details = {"at": at.isoformat() if at else None, "status": status}
        body = {**_where(service, "service"), "version": version, **details}
        await self._say("/api/v1/deployments", {k: v for k, v in body.items() if v is not None}, {})

    async def act_deploys(self, argument: dict[str, str]) -> None:
        """`{backend: "2.1"}`: deployed and reported."""
        for service, version in argument.items():
            await self._deploy(service, version)

    async def act_reports(self, argument: dict[str, Any]) -> None:
        """`{service: …, version: …}`: only reported; `ahead: 30s` or `behind` shifts the reported time."""
        fields = dict(argument)
        ahead = parse_duration(fields.pop("ahead", "0")) - parse_duration(fields.pop("behind", "0"))
        at = (datetime.now(UTC) + timedelta(seconds=ahead)).isoformat()
        await self._say("/api/v1/deployments", {"at": at} if ahead else {}, fields)

    async def act_moves(self, argument: dict[str, str]) -> None:
        """`{backend: "2.2"}`: deployed without a report."""
        for service, version in argument.items():
            self._put(service, version)

    async def act_idles(self, argument: dict[str, str]) -> None:
        """`{backend: "2.2"}`: deployed to the idle color without a report."""
        for service, version in argument.items():
            colors = self._colors(service)
            assert colors, f"{service} is not blue_green"
            _link(self._root(service) / colors[1], version)

    async def act_loses(self, argument: dict[str, str]) -> None:
        """`{backend: "2.0"}`: that release is deleted."""
        for service, version in argument.items():
            for release in self._root(service).glob(f"**/releases/{version}"):
                release.rmdir()

    async def act_marks(self, argument: dict[str, Any]) -> None:
        """`{service: …, version: …, status: …}` or `no_rollback: why`."""
        fields = dict(argument)
        await self._say(f"/api/v1/versions/{fields.pop('service')}/{fields.pop('version')}", {}, fields)

    async def act_health(self, argument: dict[str, Any]) -> None:
        """`{backend: 0}`; also `nan` and `missing`, or `by version` again."""
        for service, value in argument.items():
            self._health[service] = str(value)
            if value == "by version":
                del self._health[service]

    async def act_traffic(self, argument: dict[str, Any]) -> None:
        """`{backend: 0}` requests a second; also `missing`."""
        self._traffic |= {service: str(value) for service, value in argument.items()}

    async def act_trouble(self, argument: dict[str, str]) -> None:
        """`{backend: begins}` or `ends`: the result of a policy's `expression` `trouble{service="backend"}`."""
        self._change("trouble", argument)

    async def act_recorded_trouble(self, argument: dict[str, str]) -> None:
        """The same for `service_environment:trouble`, which the shipped rules record."""
        self._change("recorded", argument)

    def _change(self, kind: str, changes: dict[str, str]) -> None:
        now = datetime.now(UTC)
        for service, what in changes.items():
            since = self._troubled.get((kind, service), (now, None))[0]
            self._troubled[kind, service] = (now, None) if what == "begins" else (since, now)

    # --- alerts ---
    def _fire(self, argument: dict[str, Any]) -> FiringAlert:
        labels = {k: str(v) for k, v in argument.items() if k not in ("pending", "ahead", "annotations")}
        labels = {"alertname": "Failing", "environment": "production", **labels}
        ahead = timedelta(seconds=parse_duration(argument.get("ahead", "0")))
        now = datetime.now(UTC) + ahead
        active = now - timedelta(seconds=parse_duration(argument.get("pending", "0")))
        plain = {k: v for k, v in labels.items() if v != ""}
        return FiringAlert(plain, argument.get("annotations", {}), active, now, ahead=ahead)

    async def act_fires(self, argument: Any) -> None:
        """`{service: backend, …}`, or a list of them in one body; `pending: 2m` is the time before `for` was over,
        and `ahead: 30s` is how far Prometheus' clock is ahead.
        """
        await self._send(self._fire_all(argument))

    async def act_fires_apart(self, argument: list[dict[str, Any]]) -> None:
        """All of them at the same moment, each in its own body, as with `group_by: ['...']`."""
        for alert in self._fire_all(argument):
            await self._send([alert])

    async def act_fires_unsent(self, argument: Any) -> None:
        """The same as `fires`, but the webhook is lost, or waits for its `group_interval`."""
        self._fire_all(argument)

    def _fire_all(self, argument: Any) -> list[FiringAlert]:
        fired = [self._fire(alert) for alert in (argument if isinstance(argument, list) else [argument])]
        self._outside.fired += fired
        return fired

    async def act_forged(self, argument: dict[str, Any]) -> None:
        """A body that no Alertmanager knows."""
        await self._send([self._fire(argument)])

    async def act_sent_again(self, argument: dict[str, Any]) -> None:
        """All alerts with these labels, as after `repeat_interval`; `times`, more keys of the `body`, and
        `starts_later: 2s` if another Alertmanager received them later.
        """
        fields = dict(argument)
        times, extra = fields.pop("times", 1), fields.pop("body", {})
        later = timedelta(seconds=parse_duration(fields.pop("starts_later", "0")))
        found = [replace(alert, starts_at=alert.starts_at + later) for alert in self._with(fields)]
        for _ in range(times):
            await self._send(found, **extra)

    async def act_group(self, argument: list[dict[str, Any]]) -> None:
        """One body with the newest alert of each of these, firing or already resolved."""
        await self._send([self._ever(labels) for labels in argument])

    async def act_in_flight(self, argument: dict[str, Any]) -> None:
        """A delayed body: it reports the newest such alert as firing, although it may have resolved."""
        await self._post([replace(self._ever(argument), ends_at=None)])

    async def act_resolves(self, argument: dict[str, Any]) -> None:
        """All alerts with these labels; with `unsent: true`, no notification is sent."""
        fields = dict(argument)
        unsent = fields.pop("unsent", False)
        over = self._with(fields)
        for alert in over:
            alert.ends_at = datetime.now(UTC)
        if not unsent:
            await self._send(over)

    async def act_responder_scrapes(self, what: str) -> None:
        """`fail`, until the alerts that are joined with the exported deployments resolve; or `succeed` again."""
        if what == "fail":
            self._broken_off = [
                alert for alert in self._outside.firing() if alert.labels["alertname"] in self._given.recorded
            ]
            for alert in self._broken_off:
                alert.ends_at = datetime.now(UTC)
            await self._send(self._broken_off)
        else:
            again = [replace(alert, starts_at=datetime.now(UTC), ends_at=None) for alert in self._broken_off]
            self._outside.fired += again
            await self._send(again)

    async def act_body(self, argument: Any) -> None:
        """A raw body; `answer` is the expected status."""
        body, wanted = argument["body"], argument["answer"]
        answer = await self._request("POST", "/api/v1/alerts", body)
        assert self.answered == wanted, f"answered {self.answered}: {answer}"

    def _with(self, labels: dict[str, Any]) -> list[FiringAlert]:
        wanted = {k: str(v) for k, v in labels.items()}
        found = [alert for alert in self._outside.firing() if wanted.items() <= alert.labels.items()]
        assert found, f"no alert with {wanted} fires"
        return found

    def _ever(self, labels: dict[str, Any]) -> FiringAlert:
        wanted = {k: str(v) for k, v in labels.items()}
        return [alert for alert in self._outside.fired if wanted.items() <= alert.labels.items()][-1]

    async def _send(self, fired: list[FiringAlert], **extra: Any) -> None:
        """Alertmanager does not send muted alerts."""
        if loud := [alert for alert in fired if not self._outside.muted(alert.labels)]:
            await self._post(loud, **extra)

    async def _post(self, fired: list[FiringAlert], **extra: Any) -> None:
        body = {"version": "4", "status": "firing", "alerts": [alert.sent() for alert in fired], **extra}
        answer = await self._request("POST", "/api/v1/alerts", body)
        assert self.answered == 202, f"the receiver answered {self.answered}: {answer}"

    # --- Alertmanager, Prometheus, the watchdog ---
    async def act_silence(self, argument: dict[str, Any]) -> None:
        """`{match: ['service="backend"'], by: bob, comment: …}`; `for` is the duration."""
        until = datetime.now(UTC) + timedelta(seconds=parse_duration(argument.get("for", "2h")))
        matchers = tuple(m for text in argument["match"] for m in parse_matchers(text))
        name = f"silence-{len(self._outside.silences)}"
        self._outside.silences.append(PlacedSilence(name, matchers, argument["by"], argument.get("comment", ""), until))

    async def act_expire_silences(self, argument: Any) -> None:
        for silence in self._outside.silences:
            silence.ends_at = min(silence.ends_at, datetime.now(UTC))

    async def act_inhibit(self, argument: Any) -> None:
        """`{match: ['service="backend"']}`: another alert mutes these from now on, until it `ends`."""
        if argument == "ends":
            self._outside.inhibited.clear()
        else:
            self._outside.inhibited.append(tuple(m for text in argument["match"] for m in parse_matchers(text)))

    async def act_down(self, name: str) -> None:
        """Stops `alertmanager`, `prometheus` or `resources`; `resources after a write`: after one more write."""
        self._outside.down.add(name)

    async def act_up(self, name: str) -> None:
        """It answers again."""
        self._outside.down = {part for part in self._outside.down if not part.startswith(name)}

    async def act_prometheus_dies(self, argument: Any) -> None:
        """Prometheus stops, and Alertmanager resolves all its alerts and sends that."""
        over = self._outside.firing()
        for alert in over:
            alert.ends_at = datetime.now(UTC)
        self._outside.down.add("prometheus")
        await self._send(over)

    async def act_watchdog(self, what: str) -> None:
        """`comes` at its interval, or `stays away`."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        fired = FiringAlert({"alertname": "RollbackAutomationArmed"}, {}, datetime.now(UTC), datetime.now(UTC))
        self._outside.fired = [alert for alert in self._outside.fired if alert.labels != fired.labels]
        if what == "comes":
            self._outside.fired.append(fired)
            self._watching = asyncio.create_task(self._watch(fired))
            await self._send([fired])

    async def _watch(self, fired: FiringAlert) -> None:
        assert self._config.watchdog is not None
        while True:
            await asyncio.sleep(self._config.watchdog.interval)
            await self._send([fired])

    # --- engineers ---
    async def act_rollback(self, argument: dict[str, Any]) -> None:
        await self._say("/api/v1/rollbacks", {"reason": "by hand"}, argument)

    async def act_until(self, argument: dict[str, Any]) -> None:
        """`{state: running}`: waits for the state of the newest rollback; in virtual time it is reached at once."""
        while (await self._request("GET", "/api/v1/executions?state=" + argument["state"]))["executions"] == []:
            await asyncio.sleep(0.05)

    async def act_approve(self, argument: dict[str, Any]) -> None:
        """Approves the plan that awaits approval, or `plan: HASH`."""
        newest = await self._newest()
        await self._say(f"/api/v1/executions/{newest['id']}/approve", {"plan_hash": newest["plan_hash"]}, argument)

    async def act_stop(self, argument: dict[str, Any]) -> None:
        """Stops the newest rollback, the one `of: backend`, or `all: true`."""
        fields = dict(argument)
        name = "all" if fields.pop("all", False) else (await self._newest(fields.pop("of", "")))["id"]
        await self._say(f"/api/v1/executions/{name}/stop", {}, fields)

    async def act_close(self, argument: dict[str, Any]) -> None:
        """Closes the newest rollback, which is stuck; `all: true` releases the kill switch."""
        fields = dict(argument)
        name = "all" if fields.pop("all", False) else (await self._newest())["id"]
        await self._say(f"/api/v1/executions/{name}/close", {"reason": "looked at it"}, fields)

    async def act_stop_file(self, what: str) -> None:
        """`appears` or `goes`: creates or removes it."""
        file = self._directory / "STOP"
        file.touch() if what == "appears" else file.unlink()

    async def act_reconfigure(self, argument: dict[str, Any]) -> None:
        """Changes the default policy, the limits or the freeze windows, as a reload does."""
        self._config = self._configured(**argument)

    async def act_crash(self, argument: Any) -> None:
        """The worker dies at any point, and another one starts."""
        assert self._working is not None
        self._working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._working
        self._start_worker()
        for part in self._parts:
            part._worker = self._worker
        await self._until_it_works()


def _where(service: str, key: str) -> dict[str, str]:
    """The service and environment of `backend` (production) or `backend@staging`."""
    name, _, environment = service.partition("@")
    return {key: name, "environment": environment or "production"}


def _link(root: Path, version: str) -> None:
    new = root / ".new"
    new.symlink_to(f"releases/{version}")
    new.replace(root / "current")
