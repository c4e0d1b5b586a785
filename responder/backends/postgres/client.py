"""The PostgreSQL databases that services keep their data in, each known by a name that plans may show."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from foundation.durations import Duration
from foundation.secret_files import SecretFile
from responder.config.private_files import FILE
from responder.errors import StepFailed, Unavailable
from responder.transport.programs import environment as allowed


def _postgres_url(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or not parts.path.strip("/"):
        raise ValueError("must be postgresql://user@host:port/database")
    return url


_TELLS_NO_VALUES = ("0A", "2B", "40", "42", "53", "55")
"""Classes of SQLSTATE whose DETAIL is about objects and sessions; in all others it may be a key or a whole row."""

_ENDS = r"^[^\n]*\b(?:HINT|CONTEXT|STATEMENT|ERROR|WARNING|NOTICE):|^\[|^The above exception|\Z"
_VALUES = re.compile(
    rf"^[^\n]*?\bDETAIL:(?![^\n]* depends on ).*?(?={_ENDS})|^[^\n]*\bCONTEXT:\s+COPY[^\n]*$|\[parameters: .*?\]$",
    re.M | re.S,
)
_BAD_VALUE = re.compile(r'(invalid input|malformed|out of range)([^"\n]*)".*?"(?=[^"]*$)', re.M)


def reason(e: BaseException) -> str:
    """What an error says, without the values of rows that PostgreSQL tells along with some."""
    state, message = str(getattr(e, "sqlstate", "") or ""), getattr(e, "message", None)
    if not state or not message or state.startswith(_TELLS_NO_VALUES):
        return str(e) or type(e).__name__
    if state.startswith("22"):  # the value that is wrong is in the message itself
        message = re.sub(r'".*"', '"…"', message, flags=re.S)
    hint = getattr(e, "hint", None)
    return f"{message}\nHINT:  {hint}" if hint else str(message)


def without_values(text: str) -> str:
    """The same for what a program wrote."""
    return _BAD_VALUE.sub(r'\1\2"…"', _VALUES.sub("", text))


class DatabaseSettings(BaseModel):
    """One database. Reach it directly: locks of a session do not survive a pooler in transaction mode."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?$", description="How services name it")
    url: Annotated[SecretStr, AfterValidator(_postgres_url)] = Field(
        description="As postgresql://owner:${PGPASSWORD}@host:5432/shop: a role that may migrate the schema"
    )
    password_file: SecretFile | None = Field(
        default=None, description="File that holds the password, instead of the URL"
    )
    connect_within: Duration = Field(default=5.0, gt=0, description="Longest wait for a connection")
    variables: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="What migration tools find in their environment besides libpq's variables; {host}, {port}, {user}, "
        "{password} and {database} are filled in",
    )
    _password: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _read(self) -> DatabaseSettings:
        inline = unquote(urlsplit(self.url.get_secret_value()).password or "")
        if self.password_file is None:
            self._password = inline
            return self
        if inline:
            raise ValueError("the password is in the URL and in password_file: say it once")
        try:
            self._password = self.password_file.read_text().strip()
        except OSError as e:
            raise ValueError(f"{self.password_file} cannot be read: {e.strerror}") from None
        return self

    @property
    def password(self) -> str:
        return self._password


_OF_TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")


class Postgres:
    """Connections to the configured databases, and what programs such as `pg_dump` need to reach them.

    What PostgreSQL itself refuses is left to the caller as `asyncpg.PostgresError`'s SQLSTATE; only that it cannot be
    reached is told here, as `Unavailable`.
    """

    package = "asyncpg"

    def __init__(self, databases: tuple[DatabaseSettings, ...]) -> None:
        self._databases = {database.name: database for database in databases}

    @classmethod
    async def connect(cls, settings: tuple[DatabaseSettings, ...] | None) -> Self:
        return cls(settings or ())

    async def close(self) -> None:
        """Nothing is held open."""

    def _settings(self, name: str) -> DatabaseSettings:
        if name not in self._databases:
            raise StepFailed(f"no database {name!r} is configured")
        return self._databases[name]

    def address_of(self, name: str) -> tuple[str, int, str]:
        """Host, port and database that a name stands for."""
        parts = urlsplit(self._settings(name).url.get_secret_value())
        return parts.hostname or "", parts.port or 5432, unquote(parts.path.lstrip("/"))

    def database_of(self, name: str) -> str:
        return self.address_of(name)[2]

    @contextlib.asynccontextmanager
    async def session(
        self, name: str, *, application: str = "rollback-responder", database_name: str | None = None, **settings: str
    ) -> AsyncIterator[Any]:
        """An `asyncpg.Connection`. `settings` are the server's, as `lock_timeout="2s"`. Raises Unavailable.

        `database_name` is another database of the same server. A connection that is lost within is `Unavailable` too.
        """
        import asyncpg

        database = self._settings(name)
        try:
            connection = await asyncpg.connect(
                database.url.get_secret_value(),
                password=database.password or None,
                database=database_name,
                timeout=database.connect_within,
                statement_cache_size=0,
                server_settings={"application_name": application, **settings},
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as e:
            raise Unavailable(f"the database {name} cannot be reached: {reason(e)}") from e
        try:
            yield connection
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as e:
            ended = str(getattr(e, "sqlstate", None)).startswith(("08", "57P"))  # the wire was cut, the server stopped
            if not ended and not connection.is_closed():
                raise
            raise Unavailable(f"the connection to the database {name} was lost: {reason(e)}") from e
        finally:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=5)

    @contextlib.contextmanager
    def environment(
        self, name: str, *, application: str = "rollback-responder", database_name: str | None = None, **settings: str
    ) -> Iterator[dict[str, str]]:
        """Variables of libpq under which any program reaches the database.

        No password is in argv or in the environment; the file that holds it lasts as long as the context does.
        """
        database = self._settings(name)
        parts = urlsplit(database.url.get_secret_value())
        options = " ".join(f"-c {key}={_escaped(value)}" for key, value in settings.items())
        host, port = parts.hostname or "", str(parts.port or 5432)
        user, own = unquote(parts.username or ""), unquote(parts.path.lstrip("/"))
        query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
        with tempfile.TemporaryDirectory(prefix="rollback-pg-") as directory:
            secret = Path(directory) / "pgpass"
            fields = [
                part.replace("\\", "\\\\").replace(":", "\\:") for part in (host, port, "*", user, database.password)
            ]
            secret.touch(mode=FILE)
            secret.write_text(":".join(fields) + "\n")
            yield {
                **allowed(),
                "PGHOST": host,
                "PGPORT": port,
                "PGDATABASE": database_name or own,
                "PGPASSFILE": str(secret),
                "PGAPPNAME": application,
                "PGCONNECT_TIMEOUT": str(max(round(database.connect_within), 2)),
                **({"PGUSER": user} if user else {}),
                **{f"PG{key.upper()}": unquote(query[key]) for key in _OF_TLS if key in query},
                **({"PGOPTIONS": options} if options else {}),
            }


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
