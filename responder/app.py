"""The only place where all parts meet: start, reload and stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from responder.clients import Connections
from responder.config import Config
from responder.config_file import load
from responder.errors import ConfigError
from responder.evidence.keeper import Keeper
from responder.execution import Event, Execution, Halted, Held, Stopped
from responder.journal import Database, open_journal
from responder.logs import say, set_up
from responder.metrics import Metrics
from responder.notify import Teller
from responder.policies import Mandate
from responder.web.access import Access
from responder.web.api import Api
from responder.web.approval import ApprovalPage, Links
from responder.web.client_documents import ClientDocuments
from responder.web.events import Events
from responder.web.evidence import Evidence
from responder.web.feed import Feed
from responder.web.receiver import Receiver
from responder.web.registry import Registry
from responder.web.reload import Reload
from responder.web.reports import Reports
from responder.web.server import listen, routes
from responder.web.status import Status
from responder.web.stopping import StopPage
from responder.worker import Worker

log = logging.getLogger("responder")


class App:
    """One responder process. What it works with is one value, swapped whole or not at all."""

    def __init__(self, config: Config, file: Path | None = None) -> None:
        self._file = file
        self._metrics = Metrics()
        self._retired: list[Connections] = []
        self._journal: Database | None = None
        self._connections = config.connections()
        self._use(config, self._connections)

    def _use(self, config: Config, connections: Connections) -> None:
        self._config = config
        self._mandate = config.mandate
        self._connections = connections
        self._access = Access(config.web)
        self._links = Links(config.web)
        self._mistakes: list[str] = []  # of the last reload
        self._metrics.reload_ok.set(1)
        self._metrics.reload_at.set(config.loaded_at.timestamp())

    def mandate(self) -> Mandate:
        return self._mandate

    def connections(self) -> Connections:
        return self._connections

    def keeper(self) -> Keeper | None:
        """Who keeps evidence; None where the configuration wants none."""
        settings = self._config.evidence
        if settings is None or self._journal is None:
            return None
        return Keeper(settings, self._journal, self._mandate, self._connections, self._metrics.kept)

    async def run(self, *, ready: asyncio.Event | None = None) -> None:
        """Serves until SIGTERM or SIGINT. Raises ConfigError where it cannot begin."""
        config = self._config
        journal = self._journal = await open_journal(config.journal, lease=config.limits.lease, wait=True)
        stumbled = self._metrics.stumbled
        feed = Feed(journal, stumbled=stumbled)
        teller = Teller(
            journal,
            lambda: self._config.notify,
            self.mandate,
            links=lambda execution: self._links.both(execution),
            counted=self._metrics.notified,
            stumbled=stumbled,
        )
        worker = Worker(
            journal,
            self.mandate,
            self.connections,
            concurrent=config.limits.concurrent,
            lease=config.limits.lease,
            resume_at_most=config.limits.resumptions,
            listeners=(self._metrics.happened, _tell, feed.happened, lambda execution, events: teller.stir()),
            keeper=self.keeper,
            stumbled=stumbled,
            judged=self._metrics.decided,
        )
        receiver = Receiver(journal, self.mandate, self.connections, worker, self._metrics)
        api = Api(journal, self.mandate, self.connections, worker, receiver, lambda held: self._links.link(held))
        reports = Reports(journal, self.mandate, self.connections, worker, lambda: self._mistakes)
        pages = (
            receiver,
            api,
            reports,
            Registry(journal, self.mandate),
            Status(journal, self.mandate, worker, self._metrics, reports, lambda: tuple(self._config.notify.channels)),
            ApprovalPage(journal, api, lambda: self._links),
            StopPage(journal, lambda: self._links),
            Events(feed, worker, lambda request: self._access.allows(request, "read")),
            Evidence(journal, self.keeper),
            ClientDocuments(journal, self.mandate, lambda: self._config.clients),
            Reload(self.reload),
        )
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        runner = working = telling = None
        try:
            working = asyncio.create_task(worker.run(), name="worker")
            telling = asyncio.create_task(teller.run(), name="teller")  # nobody waits for it
            telling.add_done_callback(self._told_no_more)
            runner = await listen(
                routes(lambda: self._access, pages, self._metrics.refused), config.web, self._metrics.ended
            )
            say(
                log,
                "listening",
                address=config.web.listen,
                tls=config.web.served.tls_server_config is not None,
                services=len(config.services),
                policies=len(config.policies),
            )
            if ready is not None:
                ready.set()
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if working.done():  # for whatever reason: without it nothing is rolled back, and a restart may help
                working.result()
                raise RuntimeError("the worker has ended")
            say(log, "stopping")
        finally:
            if runner is not None:
                await runner.cleanup()  # no new requests; those under way are answered
            await worker.close()
            tasks = [task for task in (working, telling) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)  # one that failed has been told of
            await teller.close()
            await journal.close()
            for connections in (self._connections, *self._retired):
                await connections.close()

    def _told_no_more(self, telling: asyncio.Task[None]) -> None:
        """Its loop goes on after every bug, so this is one in the loop itself. Rollbacks need nobody who tells."""
        if not telling.cancelled():
            self._metrics.stumbled("notifications")
            log.error("nobody is told any more until a restart", exc_info=telling.exception())

    def reload(self) -> list[str]:
        """Reads the file again and uses it whole, or keeps what is in use; returns the mistakes."""
        try:
            if self._file is None:
                raise ConfigError(["there is no file to read again"])
            new = load(self._file)
            if fixed := self._changed(new):
                raise ConfigError([f"{self._file}: {name} cannot change without a restart" for name in fixed])
        except ConfigError as e:
            self._mistakes = e.mistakes
            self._metrics.reload_ok.set(0)
            say(log, "reload refused; the old configuration stays in use", level=logging.ERROR, mistakes=e.mistakes)
            return e.mistakes
        self._retired.append(self._connections)  # a rollback under way may still hold it: closed at the end
        self._use(new, new.connections())
        say(log, "reloaded", services=len(new.services), policies=len(new.policies))
        return []

    def _changed(self, new: Config) -> list[str]:
        old = self._config
        return [
            name
            for name, before, after in (
                ("state", old.journal, new.journal),
                ("web.listen", old.web.listen, new.web.listen),
                ("TLS of web.config_file", old.web.served.tls_server_config, new.web.served.tls_server_config),
                ("headers of web.config_file", old.web.served.http_server_config, new.web.served.http_server_config),
                ("limits", old.limits, new.limits),
                ("log", old.log, new.log),
            )
            if before != after
        ]


def _tell(execution: Execution, events: tuple[Event, ...]) -> None:
    """One line an event."""
    accepted = execution.accepted
    for event in events:
        facts = event.model_dump(mode="json", exclude={"at", "type", "plan", "alerts"}, exclude_none=True)
        bad = isinstance(event, Halted | Stopped) or execution.state == "stuck"
        level = logging.WARNING if bad or isinstance(event, Held) else logging.INFO
        say(log, f"rollback {event.type}", level=level, execution=execution.id, service=accepted.service, **facts)


async def serve(file: Path) -> None:
    """Reads the configuration and serves. Raises ConfigError."""
    config = load(file)
    set_up(config.log.style, config.log.level)
    await App(config, file).run()
