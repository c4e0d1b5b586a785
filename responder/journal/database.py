"""What the journal asks of a database: transactions, its own clock, and a word when something changed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
Row = Mapping[str, Any]


def storable(text: str) -> str:
    """The text as every database stores it: no NUL, no lone surrogate, also not escaped in JSON."""
    if "\0" in text or "\\u0000" in text:
        text = text.replace("\0", "\ufffd").replace("\\u0000", "\\ufffd")
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Transaction(Protocol):
    """One transaction. Its statements are the named queries of `queries/*.sql`."""

    async def all(self, query: str, **params: Any) -> list[Row]:
        """Every row."""

    async def first(self, query: str, **params: Any) -> Row | None:
        """The first row, None where there is none."""

    async def lock(self, key: str) -> None:
        """Nobody else holds this key until the transaction ends."""

    def notify(self) -> None:
        """Once this is committed, whoever waits in `changed` wakes up, in every replica."""


class Database(Protocol):
    """SQLite or PostgreSQL. Where it cannot be used, every method raises `JournalUnavailable`."""

    exclusive: bool
    """Whether no other process can have it open."""

    async def transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `act` returns, once all that it did is durable; where it raises, nothing of it happened.

        `act` awaits nothing but the transaction that it is handed, and may be run again.
        """

    async def read(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same for an `act` that only reads."""

    async def lease_transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `transaction`, on a connection of its own, so that the lease is renewed however much else goes on."""

    def now(self) -> datetime:
        """The time by the database's clock. Nothing that several replicas compare is taken from another clock."""

    async def changed(self, within: float) -> bool:
        """Waits until something was notified since the last call, or for so many seconds; tells which.

        For one who waits; everybody else who wants to know has an ear of their own.
        """

    def listen(self) -> Subscription:
        """An ear that hears every notification from now on."""

    async def close(self) -> None: ...


class Subscription:
    """One who waits for notifications. Many that come while nobody waits are heard as one."""

    def __init__(self, bell: ChangeBroadcast) -> None:
        self._bell, self.rang = bell, asyncio.Event()

    async def changed(self, within: float) -> bool:
        """Waits until the bell rang since the last call, or for so many seconds; tells which."""
        try:
            async with asyncio.timeout(within):
                await self.rang.wait()
        except TimeoutError:
            return False
        self.rang.clear()
        return True

    def close(self) -> None:
        self._bell.ears.discard(self)


class ChangeBroadcast:
    """Is rung when something was notified, and heard by all who listen."""

    def __init__(self) -> None:
        self.ears: set[Subscription] = set()

    def ring(self) -> None:
        for ear in self.ears:
            ear.rang.set()

    def listen(self) -> Subscription:
        ear = Subscription(self)
        self.ears.add(ear)
        return ear


def load_statements(dialect: Mapping[str, str]) -> dict[str, str]:
    """The named statements of `queries/*.sql`, with `{now}` and `{later}` in the SQL of the database.

    `{now}` is the clock of the database, and `{later}` that clock `:lease` seconds later. `:name` is a parameter.
    """
    statements: dict[str, str] = {}
    for file in sorted(files("responder.journal").joinpath("queries").iterdir(), key=lambda file: file.name):
        for part in re.split(r"^-- name: ", file.read_text(), flags=re.MULTILINE)[1:]:
            name, body = part.split("\n", 1)
            sql = "\n".join(line for line in body.splitlines() if not line.startswith("--")).strip().rstrip(";")
            for word, meaning in dialect.items():
                sql = sql.replace("{" + word + "}", meaning)
            if name.strip() in statements:
                raise ValueError(f"{file.name}: query {name.strip()!r} is defined twice")
            statements[name.strip()] = sql
    return statements


def load_migrations() -> list[str]:
    """The sections of schema.sql in order. The first one is migration 1."""
    text = files("responder.journal").joinpath("schema.sql").read_text()
    return re.split(r"^-- migration: \d+$", text, flags=re.MULTILINE)[1:]
