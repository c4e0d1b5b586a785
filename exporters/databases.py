"""Two databases, one question: connect, ask, and know which of the two went wrong."""

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

from exporters.errors import Failed, Unable, spare_the_target

if TYPE_CHECKING:
    import asyncpg
    from redis.asyncio import Redis as RedisClient
    from redis.asyncio.connection import SSLConnection as RedisTlsConnection

GOODBYE = 0.2  # seconds: enough for a server that listens, and less than the half second kept back from the scrape
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
DRIVERS = {"postgresql": "asyncpg", "postgres": "asyncpg", "redis": "redis.asyncio", "rediss": "redis.asyncio"}


class Session(Protocol):
    """A connection to a database, in use by one probe at a time."""

    async def ask(self, query: str) -> str | None:
        """The first value of the answer as text, None if there is none. Failed: reason `query` or `connect`."""

    async def close(self) -> None:
        """Say goodbye and close; never raises."""

    async def drop(self) -> None:
        """Close at once, without a word; never raises."""


def refusal(dsn: str) -> str | None:
    """Why this DSN cannot be used, without showing any of it; None if it can."""
    try:
        parts = urlsplit(dsn)
        _ = parts.port
    except ValueError:
        return "is not a URL"
    driver = DRIVERS.get(parts.scheme)
    if driver is None:
        return "must begin with postgresql:// or redis:// (rediss:// for TLS)"
    try:
        # Now, and not in the first probe: it takes 100 ms, in which no other probe could go on.
        importlib.import_module(driver)
    except ImportError:
        extra = "postgres" if driver == "asyncpg" else "redis"
        return f"needs the package {driver.partition('.')[0]}: pip install 'rollback-responder[{extra}]'"
    if parts.fragment:
        return "has a # in it: write %23 where it belongs to a name or a password"
    return _redis_refusal(dsn) if kind(dsn) == "redis" else _postgres_refusal(parse_qs(parts.query))


def _postgres_refusal(options: dict[str, list[str]]) -> str | None:
    mode = options.get("sslmode", ["prefer"])[-1]
    if mode not in SSL_MODES:
        return f"has the sslmode {mode!r}, which is none of {', '.join(SSL_MODES)}"
    files = [
        file for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile") for file in options.get(name, ())
    ]
    missing = [file for file in files if not Path(file).is_file()]
    return f"names the file {missing[0]}, which is not there" if missing else None


def _redis_refusal(dsn: str) -> str | None:
    from redis.asyncio import Redis as RedisClient

    path = urlsplit(dsn).path.strip("/")
    if path and not path.isdigit():
        return "has a database that is not a number"
    try:  # this connects to nothing yet
        RedisClient.from_url(dsn).connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError):
        return "has an option that the driver does not know"
    return None


def passwords(dsn: str) -> list[str]:
    """Every password inside the DSN, wherever drivers allow one."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    return [parts.password or "", *query.get("password", []), *query.get("sslpassword", [])]


def kind(dsn: str) -> str:
    """`postgresql` or `redis`."""
    return "redis" if urlsplit(dsn).scheme.startswith("redis") else "postgresql"


async def connect(dsn: str, password: str | None) -> Session:
    """A fresh session. Failed with reason `connect` if the server cannot be reached or does not let us in."""
    return await (Redis if kind(dsn) == "redis" else Postgres).connect(dsn, password)


class Postgres:
    """PostgreSQL through asyncpg; queries run in a read-only transaction, so a check can never change anything."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, dsn: str, password: str | None) -> Self:
        """As `connect` above."""
        import asyncpg

        given = {"password": password} if password is not None else {}
        try:
            # No statement cache: behind PgBouncer the next query may meet a server that never heard of the statement.
            return cls(await asyncpg.connect(dsn, timeout=3600, statement_cache_size=0, **given))
        except asyncpg.ClientConfigurationError as error:
            raise Unable(f"the dsn cannot be used: {described(error)}") from error
        except (
            OSError,
            ValueError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ) as error:
            spare_the_target(error)
            raise Failed(f"cannot connect: {described(error)}", reason="connect") from error

    async def ask(self, query: str) -> str | None:
        """As Session.ask."""
        import asyncpg

        lost = (OSError, asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)
        broken = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError, OverflowError)
        try:
            # Not `connection.transaction()`: where we are cancelled it would send its ROLLBACK, and wait for an answer
            # from the very server that hangs. Whoever fails here drops the connection, which rolls back as well.
            await self._connection.execute("BEGIN READ ONLY")
            row = await self._connection.fetchrow(query)
            await self._connection.execute("ROLLBACK")
        except lost as error:
            raise Failed(f"the connection was lost: {described(error)}", reason="connect") from error
        except broken as error:
            gone = isinstance(error, asyncpg.InterfaceError) and self._connection.is_closed()
            what, reason = ("the connection was lost", "connect") if gone else ("the query failed", "query")
            raise Failed(f"{what}: {described(error)}", reason=reason) from error
        return None if row is None or not len(row) or row[0] is None else str(row[0])

    async def close(self) -> None:
        """As Session.close."""
        import asyncpg

        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self._connection.close(timeout=GOODBYE)

    async def drop(self) -> None:
        """As Session.drop."""
        self._connection.terminate()


class Redis:
    """Redis through redis-py, on one connection and without its retries: a probe counts what happens, once."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    @classmethod
    async def connect(cls, dsn: str, password: str | None) -> Self:
        """As `connect` above."""
        from redis.asyncio import Redis as RedisClient
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError

        given: dict[str, Any] = {"password": password} if password is not None else {}
        client = RedisClient.from_url(
            dsn,
            single_connection_client=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=None,
            decode_responses=True,
            encoding_errors="replace",
            driver_info=None,
            **given,
        )
        if urlsplit(dsn).scheme == "rediss":
            client.connection_pool.connection_class = _trusting_off_the_loop()
        try:
            await client.initialize()
        except (OSError, ValueError, RedisError) as error:
            await cls(client).close()
            spare_the_target(error)
            raise Failed(f"cannot connect: {described(error)}", reason="connect") from error
        except asyncio.CancelledError:
            await cls(client).close()
            raise
        return cls(client)

    async def ask(self, query: str) -> str | None:
        """As Session.ask; the query is a command such as `PING` or `GET key`."""
        from redis.exceptions import ConnectionError as Lost
        from redis.exceptions import RedisError

        try:
            answer = await self._client.execute_command(*shlex.split(query))  # type: ignore[no-untyped-call]
        except (OSError, Lost) as error:
            raise Failed(f"the connection was lost: {described(error)}", reason="connect") from error
        except RedisError as error:
            raise Failed(f"the command failed: {described(error)}", reason="query") from error
        first = answer[0] if isinstance(answer, list) and answer else answer
        return None if first is None else "PONG" if first is True else str(first)

    async def close(self) -> None:
        """As Session.close."""
        from redis.exceptions import RedisError

        with suppress(OSError, TimeoutError, RedisError):
            async with asyncio.timeout(GOODBYE):
                await self._client.aclose()

    async def drop(self) -> None:
        """As Session.drop."""
        await self.close()


@cache
def _trusting_off_the_loop() -> type[RedisTlsConnection]:
    from redis.asyncio.connection import SSLConnection

    class TrustingOffTheLoop(SSLConnection):
        """Reads the system's certificates in a thread: on the loop it held up every other probe for some 20 ms."""

        async def connect(self) -> None:
            """As SSLConnection.connect."""
            await asyncio.to_thread(self.ssl_context.get)
            await super().connect()  # type: ignore[no-untyped-call]

    return TrustingOffTheLoop


def described(error: BaseException) -> str:
    """An error in one line, never empty: some have a type and no words."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason.lower().replace('_', ' ')}"
    return str(error) or type(error).__name__
