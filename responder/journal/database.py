"""The interface of the journal's database: transactions, a clock, and notifications of changes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from foundation.waiting import set_within
from responder.config.permitted import Permitted

T = TypeVar("T")
P = ParamSpec("P")
Row = Mapping[str, Any]

EPOCH, END_OF_TIME = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Before and after every time in the journal."""


def storable(text: str) -> str:
    """The text without characters that a database rejects: NUL and lone surrogates, even as JSON escapes."""
    if "\0" in text or "\\u0000" in text:
        text = text.replace("\0", "\ufffd").replace("\\u0000", "\\ufffd")
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Transaction(Protocol):
    """One transaction. Its statements are the named queries of `queries/*.sql`."""

    async def all(self, query: str, **params: Any) -> list[Row]:
        """Every row. Times are aware datetimes in UTC."""

    async def first(self, query: str, **params: Any) -> Row | None:
        """The first row, or None if there is none."""

    async def lock(self, key: str) -> None:
        """Locks a key until the transaction ends. Waits while another transaction holds the lock."""

    def notify(self) -> None:
        """Wakes every subscription, in every replica, once the transaction is committed."""


class Transactions(Protocol):
    """What decisions need of the journal: transactions, and its clock."""

    async def transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The result of `act`, once everything that it wrote is durable. If `act` raises, nothing is written.

        `act` awaits only the transaction that it receives. It may run more than once.
        """

    def now(self) -> datetime:
        """The clock of the database. Times that several replicas compare come only from this clock."""


class Database(Transactions, Protocol):
    """SQLite or PostgreSQL. Every method raises `JournalUnavailable` if the database cannot be used."""

    exclusive: bool
    """Whether this process has exclusive access to the database."""

    async def read(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like `transaction`, for an `act` that only reads. It reads one consistent snapshot."""

    async def bulk_transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like `transaction`, for work that may be much, such as a storm of alerts. Others wait for one at most."""

    async def lease_transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like `transaction`, on a separate connection, so that load never delays the renewal of a lease."""

    async def changed(self, within: float) -> bool:
        """Waits for a notification since the last call, at most so many seconds. Returns whether one arrived.

        For a single caller. Others subscribe.
        """

    def listen(self) -> Subscription:
        """A new subscription to the notifications from now on."""

    async def close(self) -> None: ...


class Bulk:
    """The journal, with bulk transactions."""

    def __init__(self, journal: Database) -> None:
        self._journal = journal

    async def transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """See Database.bulk_transaction."""
        return await self._journal.bulk_transaction(act, *args, **kwargs)

    def now(self) -> datetime:
        """See Transactions.now."""
        return self._journal.now()


class Subscription:
    """Waits for notifications. Those that arrive between two waits count as one."""

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast, self.notified = broadcast, asyncio.Event()

    async def changed(self, within: float) -> bool:
        """Waits for a notification since the last call, at most so many seconds. Returns whether one arrived."""
        if notified := await set_within(self.notified, within):
            self.notified.clear()
        return notified

    def close(self) -> None:
        self._broadcast.subscriptions.discard(self)


class Broadcast:
    """Sends a notification to all subscriptions."""

    def __init__(self) -> None:
        self.subscriptions: set[Subscription] = set()

    def notify(self) -> None:
        for subscription in self.subscriptions:
            subscription.notified.set()

    def listen(self) -> Subscription:
        subscription = Subscription(self)
        self.subscriptions.add(subscription)
        return subscription


def narrow(query: str, service: str | None, permitted: Permitted) -> Iterator[tuple[str, dict[str, str]]]:
    """The queries that find the rows of a service, or all permitted ones, and their parameters.

    A query about one service or one environment reads an index of its own: no rows of others.
    """
    if service is not None or permitted.services is not None:
        for name in sorted(permitted.services or ()) if service is None else [service]:
            yield f"{query}_of", {"service": name}
    elif permitted.environments is not None:
        for environment in sorted(permitted.environments):
            yield f"{query}_in", {"environment": environment}
    else:
        yield query, {}


_ALL_PERMITTED = """NOT EXISTS (
    SELECT 1 FROM parts AS other WHERE other.execution = x.id
      AND (replace(CAST(:services AS TEXT), '|' || other.service || '|', '') = :services
           OR replace(CAST(:environments AS TEXT), '|' || other.environment || '|', '') = :environments))"""


# Subqueries with one value: PostgreSQL would join the other tables as a whole.
_EXPIRED = """
  (SELECT max(later.last_at) FROM decisions AS later WHERE later.incident = d.incident) < :before
  AND (d.execution IS NULL OR (SELECT x.archived_in FROM executions AS x WHERE x.id = d.execution) IS NOT NULL)
  AND (d.forced OR d.result = 'ignore' OR d.action <> 'roll_back' OR (
    SELECT newer.id FROM decisions AS newer
    WHERE newer.service = d.service AND newer.environment = d.environment AND newer.policy = d.policy
      AND newer.last_at > d.last_at AND NOT newer.forced AND newer.result <> 'ignore' AND newer.action = 'roll_back'
    ORDER BY newer.last_at LIMIT 1) IS NOT NULL)
  AND (SELECT count(*) FROM messages AS m WHERE m.subject = d.id AND m.state = 'pending') = 0
  AND (SELECT count(*) FROM outbox AS o WHERE o.subject = d.id) = 0"""


def load_statements(dialect: Mapping[str, str]) -> dict[str, str]:
    """The named statements of `queries/*.sql`, with `{now}` and `{later}` in the SQL of the database.

    `{now}` is the clock of the database, and `{later}` that clock `:lease` seconds later. `{permitted}`: every service
    of the execution `x` is in `:services` and `:environments`, if these are not null. `{expired}`: nothing needs the
    decision `d`. `:name` is a parameter.
    """
    statements: dict[str, str] = {}
    for file in sorted(files("responder.journal").joinpath("queries").iterdir(), key=lambda file: file.name):
        for part in re.split(r"^-- name: ", file.read_text(), flags=re.MULTILINE)[1:]:
            name, body = part.split("\n", 1)
            sql = "\n".join(line for line in body.splitlines() if not line.startswith("--")).strip().rstrip(";")
            for word, meaning in {**dialect, "permitted": _ALL_PERMITTED, "expired": _EXPIRED}.items():
                sql = sql.replace("{" + word + "}", meaning)
            if name.strip() in statements:
                raise ValueError(f"{file.name}: query {name.strip()!r} is defined twice")
            statements[name.strip()] = sql
    return statements


def load_migrations() -> list[str]:
    """The sections of schema.sql in order. The first one is migration 1."""
    text = files("responder.journal").joinpath("schema.sql").read_text()
    return re.split(r"^-- migration: \d+$", text, flags=re.MULTILINE)[1:]
