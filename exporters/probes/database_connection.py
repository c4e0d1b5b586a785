"""Does the database let a new client in, and does it answer a question rightly? The two fail apart."""

from __future__ import annotations

import shlex
from time import perf_counter
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from exporters.check import Check
from exporters.connections import Connections
from exporters.databases import Session, connect, kind, passwords, refusal
from exporters.errors import Failed
from exporters.notes import Notes
from exporters.redaction import shown_url

DEFAULT_QUERY = {"postgresql": "SELECT 1", "redis": "PING"}
LONGEST_SHOWN = 100


class DatabaseConnection(Check):
    """PostgreSQL or Redis, by the scheme of `dsn`. `fresh_every: 4` makes a new connection on every fourth probe."""

    type: Literal["database_connection"]
    dsn: SecretStr
    password: SecretStr | None = None
    query: str | None = None
    expected: str | None = None
    fresh_every: Annotated[int, Field(ge=1)] = 1
    """1 by default: a connection that is kept never learns that new clients are refused."""

    reasons: ClassVar[tuple[str, ...]] = ("connect", "query", "result")

    @field_validator("dsn")
    @classmethod
    def _is_usable(cls, dsn: SecretStr) -> SecretStr:
        if (why := refusal(dsn.get_secret_value())) is not None:
            raise ValueError(why)
        return dsn

    @field_validator("expected", mode="before")
    @classmethod
    def _as_text(cls, expected: object) -> object:
        # `expected: 1` is what everyone writes; answers are compared as text.
        return str(expected) if isinstance(expected, int) and not isinstance(expected, bool) else expected

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.query is not None and not self.query.strip():
            raise ValueError("query is empty")
        if self.query is not None and kind(self.dsn.get_secret_value()) == "redis":
            try:
                shlex.split(self.query)
            except ValueError as error:
                raise ValueError(f"query is not a command: {str(error).lower()}") from error
        return self

    @property
    def shown_target(self) -> str:
        """The DSN without its secrets."""
        return shown_url(self.dsn.get_secret_value())

    def secrets(self) -> list[str]:
        """As Check.secrets, and the password inside the DSN. A DSN that holds none is no secret."""
        dsn = self.dsn.get_secret_value()
        return [secret for secret in (*super().secrets(), *passwords(dsn)) if secret != shown_url(dsn)]

    async def probe(self, out: Notes, reach: Connections) -> None:
        """As Check.probe."""
        session = await reach.take(self.id, fresh_every=self.fresh_every)
        kept = session is not None
        try:
            if session is None:
                session = await self._connected(out)
            try:
                answer = await self._asked(session, out)
            except Failed as lost:
                if not kept or lost.reason != "connect":
                    raise
                # A kept connection dies with a restart of the server; what counts is whether a new one works now.
                out.say(f"the kept connection is gone ({lost.why}): connecting afresh")
                await session.drop()
                session, kept = None, False
                session = await self._connected(out)
                answer = await self._asked(session, out)
            if self.expected is not None and answer != self.expected:
                shown = "nothing" if answer is None else repr(out.redact(answer)[:LONGEST_SHOWN])
                raise Failed(f"the answer is {shown}, expected {self.expected!r}", reason="result")
        except BaseException:
            if session is not None:
                await session.drop()
            raise
        if self.fresh_every > 1:
            await reach.keep(self.id, session)
        else:
            await session.close()

    async def _connected(self, out: Notes) -> Session:
        out.say(f"connecting to {self.shown_target}")
        began = perf_counter()
        password = self.password.get_secret_value() if self.password else None
        session = await connect(self.dsn.get_secret_value(), password)
        took = perf_counter() - began
        out.gauge(
            "probe_database_connect_seconds", "Time to a connection that may be used; absent on a kept one.", took
        )
        out.say("connected")
        return session

    async def _asked(self, session: Session, out: Notes) -> str | None:
        began = perf_counter()
        answer = await session.ask(self.query or DEFAULT_QUERY[kind(self.dsn.get_secret_value())])
        out.gauge("probe_database_query_seconds", "Time from the query to its answer.", perf_counter() - began)
        out.say("the query was answered")
        return answer
