"""The timeouts of every PostgreSQL session of the journal, and the meaning of each driver error."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import asyncpg

from responder.errors import Invalid, JournalUnavailable, ResponderError

T = TypeVar("T")

_CANCELED, _STALLED = "57014", "25P03"

Kind = Literal["conflict", "connection", "other"]
"""conflict: with another session; connection: the session is lost; other: a retry does not help."""


@dataclass(frozen=True)
class Timeouts:
    """Timeouts of one session in seconds. All are shorter than the lease, so a stalled replica does not delay others.

    A session that waits for a lock gives up before the stalled session that holds it is ended. So the sessions of a
    stalled replica never get that lock one after the other.
    """

    lock: float
    idle: float
    statement: float
    connect: float
    client: float  # how long the driver waits for an answer
    network: float  # time without an acknowledgment after which the connection ends
    budget: float  # time after which a transaction is not retried

    @classmethod
    def of(cls, lease: float) -> Timeouts:
        """The timeouts for a lease of so many seconds."""
        return cls(
            lock=lease / 4,
            idle=lease / 3,
            statement=lease / 2,
            connect=min(lease / 2, 5.0),
            client=lease * 0.6,
            network=lease / 2,
            budget=lease / 2,
        )

    @property
    def server_settings(self) -> dict[str, str]:
        """The settings of each session. The network settings have no effect without TCP."""
        keepalive = max(round(self.network / 3), 1)
        return {
            "application_name": "rollback-responder",
            "synchronous_commit": "on",
            "lock_timeout": _milliseconds(self.lock),
            "idle_in_transaction_session_timeout": _milliseconds(self.idle),
            "statement_timeout": _milliseconds(self.statement),
            "tcp_user_timeout": _milliseconds(self.network),
            "tcp_keepalives_idle": str(keepalive),
            "tcp_keepalives_interval": str(keepalive),
            "tcp_keepalives_count": "2",
        }

    def watch_network(self, connection: Any) -> None:
        """Also ends the connection from this side if the server does not answer."""
        found = connection._transport.get_extra_info("socket")
        if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
            return
        keepalive = max(round(self.network / 3), 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.network * 1000))


def _milliseconds(seconds: float) -> str:
    return str(max(int(seconds * 1000), 1))


class DriverError(Exception):
    """An error of the driver, as opposed to an error of the code in the transaction."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.cause = cause

    @property
    def session_lives(self) -> bool:
        """Whether the server rejected only a statement, so that the session can be rolled back and used again."""
        refused = isinstance(self.cause, asyncpg.PostgresError)
        return refused and (self._sqlstate == _CANCELED or self._sqlstate[:2] not in ("08", "57", "25", "XX"))

    @property
    def kind(self) -> Kind:
        """The kind of error, which tells whether a retry can succeed."""
        if self._sqlstate[:2] in ("40", "55"):
            return "conflict"
        # A process that stalled inside the transaction must not repeat it: its reads are outdated.
        if self._sqlstate in (_STALLED, _CANCELED) or isinstance(self.cause, TimeoutError):
            return "other"
        gone = isinstance(self.cause, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError)
        return "connection" if gone or self._sqlstate[:2] in ("08", "57") else "other"

    @property
    def is_configuration(self) -> bool:
        """Whether only a change of the configuration or of database roles can fix it."""
        wrong = (ssl.SSLError, ValueError)
        return isinstance(self.cause, wrong) or self._sqlstate[:2] in ("28", "3D", "42", "0A", "F0")

    @property
    def _sqlstate(self) -> str:
        return str(getattr(self.cause, "sqlstate", None) or "")

    def translated(self) -> ResponderError:
        """The journal's error for it. A value that cannot be stored is the sender's error."""
        if isinstance(self.cause, asyncpg.DataError) or self._sqlstate[:2] == "22":
            return Invalid(f"the journal cannot store this value: {self}")
        return JournalUnavailable(f"the journal cannot be used: {self}")


async def ask(call: Callable[..., Awaitable[T]], *args: Any, **more: Any) -> T:
    """The answer of the driver. Raises DriverError for every error of the driver."""
    try:
        return await call(*args, **more)
    except Exception as e:
        raise DriverError(e) from e
