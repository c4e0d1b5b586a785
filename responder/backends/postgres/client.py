"""The PostgreSQL databases of services. Plans show their names and never their URLs."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, model_validator

from foundation.durations import Duration
from foundation.models import StrictModel
from foundation.secrets import SecretFile, read_secret
from responder.config.private_files import FILE
from responder.errors import StepFailed, Unavailable
from responder.transport.programs import environment as allowed


def _postgres_url(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or not parts.path.strip("/"):
        raise ValueError("not a PostgreSQL URL: expected postgresql://user@host:port/database")
    return url


_STATES_WITHOUT_VALUES = ("0A", "2B", "40", "42", "53", "55")
"""Classes of SQLSTATE whose DETAIL names objects and sessions. The DETAIL of all others may contain rows."""

_ENDS = r"^[^\n]*\b(?:HINT|CONTEXT|STATEMENT|ERROR|WARNING|NOTICE):|^\[|^The above exception|\Z"
_VALUES = re.compile(
    rf"^[^\n]*?\bDETAIL:(?![^\n]* depends on ).*?(?={_ENDS})|^[^\n]*\bCONTEXT:\s+COPY[^\n]*$|\[parameters: .*?\]$",
    re.M | re.S,
)
_BAD_VALUE = re.compile(r'(invalid input|malformed|out of range)([^"\n]*)".*?"(?=[^"]*$)', re.M)


def error_text(e: BaseException) -> str:
    """The message of an error without the values of rows that PostgreSQL adds to some."""
    state, message = str(getattr(e, "sqlstate", "") or ""), getattr(e, "message", None)
    if not state or not message or state.startswith(_STATES_WITHOUT_VALUES):
        return str(e) or type(e).__name__
    if state.startswith("22"):  # the message quotes the invalid value
        message = re.sub(r'".*"', '"…"', message, flags=re.S)
    hint = getattr(e, "hint", None)
    return f"{message}\nHINT:  {hint}" if hint else str(message)


def without_values(text: str) -> str:
    """The output of a program without the values of rows that PostgreSQL adds to some messages."""
    return _BAD_VALUE.sub(r'\1\2"…"', _VALUES.sub("", text))


class DatabaseSettings(StrictModel):
    """One database. Connect directly: a pooler in transaction mode breaks session locks."""

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?$", description="Name that services refer to")
    url: Annotated[SecretStr, AfterValidator(_postgres_url)] = Field(
        description="URL such as postgresql://owner:${PGPASSWORD}@host:5432/shop; the role must own the schema"
    )
    password_file: SecretFile | None = Field(
        default=None, description="File with the password, instead of a password in the URL"
    )
    connect_within: Duration = Field(default=5.0, gt=0, description="Timeout of a connection attempt")
    variables: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Additional environment of migration tools. Placeholders: {host}, {port}, "
        "{user}, {password}, {database}",
    )
    _password: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _read(self) -> DatabaseSettings:
        inline = unquote(urlsplit(self.url.get_secret_value()).password or "")
        if self.password_file is None:
            self._password = inline
            return self
        if inline:
            raise ValueError("both url and password_file contain a password: remove one")
        self._password = read_secret(self.password_file, "password_file")
        return self

    @property
    def password(self) -> str:
        """The password from the file or the URL; empty if none."""
        return self._password


_TLS_PARAMETERS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")


class Postgres:
    """Opens sessions of the configured databases, and prepares the environment of programs such as `pg_dump`.

    Raises Unavailable if a database cannot be reached. Other `asyncpg.PostgresError`s reach the caller.
    """

    package = "asyncpg"
    setting = "databases"

    def __init__(self, databases: tuple[DatabaseSettings, ...]) -> None:
        self._databases = {database.name: database for database in databases}

    @classmethod
    async def connect(cls, settings: tuple[DatabaseSettings, ...] | None) -> Self:
        return cls(settings or ())

    async def close(self) -> None:
        """Does nothing: sessions close themselves."""

    def _settings(self, name: str) -> DatabaseSettings:
        if name not in self._databases:
            raise StepFailed(
                f"unknown database {name!r}: expected one of {', '.join(self._databases) or 'none'} from `databases`"
            )
        return self._databases[name]

    def address_of(self, name: str) -> tuple[str, int, str]:
        """Host, port and database name on the server. Raises StepFailed for an unknown name."""
        parts = urlsplit(self._settings(name).url.get_secret_value())
        return parts.hostname or "", parts.port or 5432, unquote(parts.path.lstrip("/"))

    def database_of(self, name: str) -> str:
        """The name of the database on its server. Raises StepFailed for an unknown name."""
        return self.address_of(name)[2]

    @contextlib.asynccontextmanager
    async def session(
        self, name: str, *, application: str = "rollback-responder", database_name: str | None = None, **settings: str
    ) -> AsyncIterator[Any]:
        """An `asyncpg.Connection` that closes at the end of the block.

        `settings` are settings of the server such as `lock_timeout="2s"`. `database_name` selects another database
        of the same server. Raises Unavailable if the connection fails or is lost within the block.
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
            raise Unavailable(f"database {name} unreachable: {error_text(e)}") from e
        try:
            yield connection
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as e:
            lost = str(getattr(e, "sqlstate", None)).startswith(("08", "57P"))  # connection failure, server shutdown
            if not lost and not connection.is_closed():
                raise
            raise Unavailable(f"connection to database {name} lost: {error_text(e)}") from e
        finally:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=5)

    @contextlib.contextmanager
    def environment(
        self, name: str, *, application: str = "rollback-responder", database_name: str | None = None, **settings: str
    ) -> Iterator[dict[str, str]]:
        """Environment variables of libpq with which any program reaches the database.

        The password is neither in arguments nor in the environment, but in a file that exists until the block ends.
        """
        database = self._settings(name)
        parts = urlsplit(database.url.get_secret_value())
        options = " ".join(f"-c {key}={_escaped(value)}" for key, value in settings.items())
        host, port = parts.hostname or "", str(parts.port or 5432)
        user, default_name = unquote(parts.username or ""), unquote(parts.path.lstrip("/"))
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
                "PGDATABASE": database_name or default_name,
                "PGPASSFILE": str(secret),
                "PGAPPNAME": application,
                "PGCONNECT_TIMEOUT": str(max(round(database.connect_within), 2)),
                **({"PGUSER": user} if user else {}),
                **{f"PG{key.upper()}": unquote(query[key]) for key in _TLS_PARAMETERS if key in query},
                **({"PGOPTIONS": options} if options else {}),
            }


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
