"""Database clients for probes. They distinguish a failed connection from a failed query."""

from __future__ import annotations

import asyncio
import importlib
import shlex
import ssl
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import parse_qs, urlsplit

from exporters.errors import Failed, Unable, raise_if_local

if TYPE_CHECKING:
    import asyncpg
    from redis.asyncio import Redis as RedisClient
    from redis.asyncio.connection import SSLConnection as RedisTlsConnection

CLOSE_TIMEOUT = 0.2  # seconds: less than the margin that the runner keeps of the scrape timeout
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
DRIVERS = {"postgresql": "asyncpg", "postgres": "asyncpg", "redis": "redis.asyncio", "rediss": "redis.asyncio"}


class Session(Protocol):
    """A connection to a database, in use by one probe at a time."""

    async def query(self, query: str) -> str | None:
        """Returns the first value as text, or None if there is none. Raises Failed, reason `query` or `connect`."""

    async def close(self) -> None:
        """Closes the connection in the protocol's way. Never raises."""

    async def drop(self) -> None:
        """Closes the connection at once. Never raises."""


def dsn_problem(dsn: str) -> str | None:
    """Returns why a DSN cannot be used, without showing any part of it, or None if it can."""
    try:
        parts = urlsplit(dsn)
        _ = parts.port
    except ValueError:
        return "is not a URL"
    driver = DRIVERS.get(parts.scheme)
    if driver is None:
        return "must begin with postgresql:// or redis:// (rediss:// for TLS)"
    try:
        importlib.import_module(driver)  # now, not in the first probe: it blocks the event loop for 100 ms
    except ImportError:
        extra = "postgres" if driver == "asyncpg" else "redis"
        return f"needs the package {driver.partition('.')[0]}: pip install 'rollback-responder[{extra}]'"
    if parts.fragment:
        return "contains #: write %23 if it belongs to a name or a password"
    return _redis_problem(dsn) if kind(dsn) == "redis" else _postgres_problem(parse_qs(parts.query))


def _postgres_problem(options: dict[str, list[str]]) -> str | None:
    mode = options.get("sslmode", ["prefer"])[-1]
    if mode not in SSL_MODES:
        return f"has sslmode {mode!r}, expected one of {', '.join(SSL_MODES)}"
    files = [
        file for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile") for file in options.get(name, ())
    ]
    missing = [file for file in files if not Path(file).is_file()]
    return f"names the file {missing[0]}, which does not exist" if missing else None


def _redis_problem(dsn: str) -> str | None:
    from redis.asyncio import Redis as RedisClient

    path = urlsplit(dsn).path.strip("/")
    if path and not path.isdigit():
        return "has a database that is not a number"
    try:  # does not connect yet
        RedisClient.from_url(dsn).connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError):
        return "has an option that the driver does not know"
    return None


def passwords(dsn: str) -> list[str]:
    """Returns every password in the DSN, in each place where drivers accept one."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    return [parts.password or "", *query.get("password", []), *query.get("sslpassword", [])]


def kind(dsn: str) -> str:
    """Returns `postgresql` or `redis`."""
    return "redis" if urlsplit(dsn).scheme.startswith("redis") else "postgresql"


async def connect(dsn: str, password: str | None) -> Session:
    """Returns a new session. Raises Failed, reason `connect`, if the server does not accept it."""
    return await (Redis if kind(dsn) == "redis" else Postgres).connect(dsn, password)


class Postgres:
    """PostgreSQL with asyncpg. Queries run in a read-only transaction, so a check cannot change anything."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, dsn: str, password: str | None) -> Self:
        """See `connect`."""
        import asyncpg

        options = {"password": password} if password is not None else {}
        try:
            # No statement cache: behind PgBouncer the next query may reach a server without the prepared statement.
            return cls(await asyncpg.connect(dsn, timeout=3600, statement_cache_size=0, **options))
        except asyncpg.ClientConfigurationError as error:
            raise Unable(f"the DSN cannot be used: {describe_error(error)}") from error
        except (
            OSError,
            ValueError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ) as error:
            raise_if_local(error)
            raise Failed(f"cannot connect: {describe_error(error)}", reason="connect") from error

    async def query(self, query: str) -> str | None:
        """See Session.query."""
        import asyncpg

        lost = (OSError, asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)
        broken = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError, OverflowError)
        try:
            # Not `connection.transaction()`: when cancelled, it would send ROLLBACK and wait for the server that hangs.
            # After a failure the caller drops the connection, which rolls back as well.
            await self._connection.execute("BEGIN READ ONLY")
            row = await self._connection.fetchrow(query)
            await self._connection.execute("ROLLBACK")
        except lost as error:
            raise Failed(f"the connection was lost: {describe_error(error)}", reason="connect") from error
        except broken as error:
            closed = isinstance(error, asyncpg.InterfaceError) and self._connection.is_closed()
            what, reason = ("the connection was lost", "connect") if closed else ("the query failed", "query")
            raise Failed(f"{what}: {describe_error(error)}", reason=reason) from error
        return None if row is None or not len(row) or row[0] is None else str(row[0])

    async def close(self) -> None:
        """See Session.close."""
        import asyncpg

        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self._connection.close(timeout=CLOSE_TIMEOUT)

    async def drop(self) -> None:
        """See Session.drop."""
        self._connection.terminate()


class Redis:
    """Redis with redis-py, on one connection and without retries: a probe makes one attempt."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    @classmethod
    async def connect(cls, dsn: str, password: str | None) -> Self:
        """See `connect`."""
        from redis.asyncio import Redis as RedisClient
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError

        options: dict[str, Any] = {"password": password} if password is not None else {}
        client = RedisClient.from_url(
            dsn,
            single_connection_client=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=None,
            decode_responses=True,
            encoding_errors="replace",
            driver_info=None,
            **options,
        )
        if urlsplit(dsn).scheme == "rediss":
            client.connection_pool.connection_class = _tls_connection()
        try:
            await client.initialize()
        except (OSError, ValueError, RedisError) as error:
            await cls(client).close()
            raise_if_local(error)
            raise Failed(f"cannot connect: {describe_error(error)}", reason="connect") from error
        except asyncio.CancelledError:
            await cls(client).close()
            raise
        return cls(client)

    async def query(self, query: str) -> str | None:
        """See Session.query. The query is a command such as `PING` or `GET key`."""
        from redis.exceptions import ConnectionError as Lost
        from redis.exceptions import RedisError

        try:
            answer = await self._client.execute_command(*shlex.split(query))  # type: ignore[no-untyped-call]
        except (OSError, Lost) as error:
            raise Failed(f"the connection was lost: {describe_error(error)}", reason="connect") from error
        except RedisError as error:
            raise Failed(f"the command failed: {describe_error(error)}", reason="query") from error
        first = answer[0] if isinstance(answer, list) and answer else answer
        return None if first is None else "PONG" if first is True else str(first)

    async def close(self) -> None:
        """See Session.close."""
        from redis.exceptions import RedisError

        with suppress(OSError, TimeoutError, RedisError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._client.aclose()

    async def drop(self) -> None:
        """See Session.drop."""
        await self.close()


@cache
def _tls_connection() -> type[RedisTlsConnection]:
    from redis.asyncio.connection import SSLConnection

    class ThreadedTlsConnection(SSLConnection):
        """Loads the system's certificates in a thread: on the event loop that delays every other probe by 20 ms."""

        async def connect(self) -> None:
            """See SSLConnection.connect."""
            await asyncio.to_thread(self.ssl_context.get)
            await super().connect()  # type: ignore[no-untyped-call]

    return ThreadedTlsConnection


def describe_error(error: BaseException) -> str:
    """Returns the error in one line. Some errors have a type and no text."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason.lower().replace('_', ' ')}"
    return str(error) or type(error).__name__
