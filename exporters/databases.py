"""Two databases, one question: connect, ask, and know which of the two went wrong."""

from __future__ import annotations

import asyncio
import importlib
import shlex
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import parse_qs, urlsplit

from exporters.errors import Failed, spare_the_target

if TYPE_CHECKING:
    import asyncpg
    from redis.asyncio import Redis as RedisClient

GOODBYE = 0.2  # seconds: enough for a server that listens, and less than the half second kept back from the scrape
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
        try:
            async with self._connection.transaction(readonly=True):
                row = await self._connection.fetchrow(query)
        except (*lost, asyncpg.InterfaceError) as error:
            raise Failed(f"the connection was lost: {described(error)}", reason="connect") from error
        except (asyncpg.PostgresError, asyncpg.InternalClientError) as error:
            raise Failed(f"the query failed: {described(error)}", reason="query") from error
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


def described(error: BaseException) -> str:
    """An error in one line, never empty: some have a type and no words."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason.lower().replace('_', ' ')}"
    return str(error) or type(error).__name__
