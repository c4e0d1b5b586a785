"""Starts, reloads and stops the responder. The only module that wires all packages."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
from pathlib import Path

from foundation.configuration.findings import finding_of
from responder.app.loading import load
from responder.app.settings import Config
from responder.backends.connections import Connections, import_packages
from responder.decisions.policy_set import PolicySet
from responder.errors import ConfigError
from responder.evidence.collector import EvidenceCollector
from responder.journal import Database, open_journal
from responder.logging import say, set_up
from responder.notify import Dispatcher
from responder.rollback.events import ApprovalRequested, Event, StepFailed, StopRequested
from responder.rollback.execution import Execution
from responder.runtime.journal_state import JournalState
from responder.runtime.metrics import Metrics
from responder.runtime.retention import Retention
from responder.runtime.worker import Worker
from responder.web.access.access import Access
from responder.web.broadcast import ExecutionBroadcast
from responder.web.client_documents import ClientDocuments
from responder.web.deployments.deployments import Deployments
from responder.web.events import Events
from responder.web.evidence import Evidence
from responder.web.executions import Executions
from responder.web.http.routes import Handlers
from responder.web.http.server import listen, routes
from responder.web.links.approve import ApprovalPage
from responder.web.links.signing import Links
from responder.web.links.stop import StopPage
from responder.web.pages.runbooks import Runbooks
from responder.web.process import Process
from responder.web.receiver import Receiver
from responder.web.reload import Reload
from responder.web.reports import Reports
from responder.web.rollbacks import Rollbacks
from responder.web.status import Status
from responder.web.versions import Versions

log = logging.getLogger("responder")

_FIXED = "cannot change without a restart; restart the responder, or restore the old value"


class App:
    """One responder process. A reload replaces the complete configuration, or nothing."""

    def __init__(self, config: Config, file: Path | None = None) -> None:
        self._file = file
        self._metrics = Metrics()
        self._retired: list[Connections] = []
        self._journal: Database | None = None
        self._connections = config.connections()
        self._use(config, self._connections)

    def _use(self, config: Config, connections: Connections) -> None:
        self._config = config
        self._policy_set = config.policy_set
        self._connections = connections
        self._access = Access(config.web)
        self._links = Links(config.web)
        self._mistakes: list[str] = []  # of the last reload
        self._metrics.reload_ok.set(1)
        self._metrics.reload_at.set(config.loaded_at.timestamp())

    def policy_set(self) -> PolicySet:
        return self._policy_set

    def connections(self) -> Connections:
        return self._connections

    def evidence_collector(self) -> EvidenceCollector | None:
        """The collector of evidence; None if none is configured."""
        settings = self._config.evidence
        if settings is None or self._journal is None:
            return None
        return EvidenceCollector(settings, self._journal, self._policy_set, self._connections, self._metrics.kept)

    def retention(self) -> Retention | None:
        """What archives the journal; None if everything stays in it."""
        settings = self._config.journal
        if settings.retention is None or self._journal is None:
            return None
        metrics = self._metrics
        return Retention(settings, self._journal, self._connections, metrics.archived, metrics.archive_failures.inc)

    async def run(self, *, ready: asyncio.Event | None = None) -> None:
        """Serves until SIGTERM or SIGINT. Raises ConfigError if it cannot start."""
        config = self._config
        journal = self._journal = await open_journal(config.journal_url, lease=config.limits.lease, wait=True)
        broadcast = ExecutionBroadcast(journal, on_error=self._metrics.on_error)
        dispatcher = Dispatcher(
            journal,
            lambda: self._config.notify,
            self.policy_set,
            links=lambda execution: self._links.both(execution),
            counted=self._metrics.notified,
            on_error=self._metrics.on_error,
        )
        worker = Worker(
            journal,
            self.policy_set,
            self.connections,
            concurrent=config.limits.concurrent,
            lease=config.limits.lease,
            max_resumptions=config.limits.max_resumptions,
            listeners=(self._metrics.happened, _log, broadcast.happened, lambda execution, events: dispatcher.wake()),
            evidence_collector=self.evidence_collector,
            retention=self.retention,
            on_error=self._metrics.on_error,
            on_decided=self._metrics.decided,
        )
        state = JournalState(journal, self.policy_set)
        stop = self._on_signals()
        runner = working = dispatching = reading = None
        try:
            reading = asyncio.create_task(state.run(self._metrics.on_error), name="metrics")
            working = asyncio.create_task(worker.run(), name="worker")
            dispatching = asyncio.create_task(dispatcher.run(), name="dispatcher")  # rollbacks do not wait for it
            dispatching.add_done_callback(self._dispatcher_ended)
            await state.tried.wait()  # the first scrape has the series, unless the journal cannot be read
            handlers = self._handlers(journal, worker, broadcast, state)
            app = routes(lambda: self._access, handlers, self._metrics.refused)
            runner = await listen(app, config.web, self._metrics.ended)
            say(
                log,
                "listening",
                address=config.web.listen,
                tls=config.web.served.tls_server_config is not None,
                services=len(config.services),
                policies=len(config.policies),
            )
            self._import_packages()
            if ready is not None:
                ready.set()
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if working.done():  # without a worker nothing is rolled back, and a restart may help
                working.result()
                raise RuntimeError("the worker has ended")
            say(log, "stopping")
        finally:
            if runner is not None:
                await runner.cleanup()  # accepts no new requests, and completes the current ones
            await worker.close()
            tasks = [task for task in (working, dispatching, reading) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)  # errors have been logged
            await dispatcher.close()
            await journal.close()
            for connections in (self._connections, *self._retired):
                await connections.close()

    def _handlers(
        self, journal: Database, worker: Worker, broadcast: ExecutionBroadcast, state: JournalState
    ) -> tuple[Handlers, ...]:
        process = Process(journal, self.policy_set, self.connections, worker)
        receiver = Receiver(process, self._metrics)
        executions = Executions(process, lambda execution: self._links.approve_link(execution))
        reports = Reports(process, lambda: self._mistakes)
        channels = lambda: tuple(self._config.notify.channels)  # noqa: E731
        return (
            receiver,
            Rollbacks(process, receiver),
            executions,
            reports,
            Deployments(journal, self.policy_set),
            Versions(journal, self.policy_set),
            Status(journal, self.policy_set, worker, self._metrics, reports, state, channels),
            ApprovalPage(journal, executions, lambda: self._links),
            StopPage(journal, lambda: self._links),
            Events(broadcast, worker, lambda request: self._access.allows(request, "read")),
            Evidence(journal, self.evidence_collector),
            ClientDocuments(journal, self.policy_set, lambda: self._config.clients),
            Runbooks(),
            Reload(self.reload),
        )

    def _on_signals(self) -> asyncio.Event:
        """Reloads on SIGHUP; returns the event that SIGTERM and SIGINT set."""
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        return stop

    def _dispatcher_ended(self, dispatching: asyncio.Task[None]) -> None:
        """The dispatcher survives errors in notifications, so this is a bug. Rollbacks continue."""
        if not dispatching.cancelled():
            self._metrics.on_error("notifications")
            log.error("notification dispatcher crashed; restart required", exc_info=dispatching.exception())

    def reload(self) -> list[str]:
        """Reloads the file; with mistakes, the old configuration stays in use. Returns the mistakes."""
        try:
            if self._file is None:
                raise ConfigError.of("", "reload is not possible without a configuration file")
            new = load(self._file)
            if fixed := self._changed(new):
                raise ConfigError([finding_of(_FIXED, file=str(self._file), path=name) for name in fixed])
        except ConfigError as e:
            self._mistakes = e.mistakes
            self._metrics.reload_ok.set(0)
            say(log, "reload failed, old configuration stays in use", level=logging.ERROR, mistakes=e.mistakes)
            return e.mistakes
        self._retired.append(self._connections)  # running rollbacks may still use them: closed at shutdown
        self._use(new, new.connections())
        self._import_packages()
        say(log, "reloaded", services=len(new.services), policies=len(new.policies))
        return []

    def _import_packages(self) -> None:
        """Imports in a thread what the first rollback would otherwise import on the event loop."""
        clients = {kind for service in self._config.services for kind in service.clients}
        threading.Thread(target=import_packages, args=(clients,), daemon=True, name="imports").start()

    def _changed(self, new: Config) -> list[str]:
        old = self._config
        return [
            name
            for name, before, after in (
                ("state", old.journal_url, new.journal_url),
                ("web.listen", old.web.listen, new.web.listen),
                ("TLS of web.config_file", old.web.served.tls_server_config, new.web.served.tls_server_config),
                ("headers of web.config_file", old.web.served.http_server_config, new.web.served.http_server_config),
                ("limits", old.limits, new.limits),
                ("log", old.log, new.log),
            )
            if before != after
        ]


def _log(execution: Execution, events: tuple[Event, ...]) -> None:
    """Logs every event."""
    accepted = execution.accepted
    for event in events:
        fields = event.model_dump(mode="json", exclude={"at", "type", "plan", "alerts"}, exclude_none=True)
        bad = isinstance(event, StepFailed | StopRequested) or execution.state == "stuck"
        level = logging.WARNING if bad or isinstance(event, ApprovalRequested) else logging.INFO
        say(log, f"rollback {event.type}", level=level, execution=execution.id, service=accepted.service, **fields)


async def serve(file: Path) -> None:
    """Reads the configuration and serves until SIGTERM or SIGINT. Raises ConfigError."""
    config = load(file)
    set_up(config.log)
    gc.freeze()  # a full collection would walk all loaded code each time, which takes 50 ms
    gc.enable()
    await App(config, file).run()
