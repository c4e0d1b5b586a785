"""The check type `database_connection`: connects to PostgreSQL or Redis, and compares the answer to a query."""

from __future__ import annotations

import shlex
from time import perf_counter
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from exporters.clients.connections import Connections
from exporters.clients.databases import Session, connect, dsn_problem, kind, passwords
from exporters.errors import Failed
from exporters.output import ProbeOutput
from exporters.probes.check import Check
from foundation.redaction import shown_url

DEFAULT_QUERY = {"postgresql": "SELECT 1", "redis": "PING"}
LONGEST_SHOWN = 100


class DatabaseConnection(Check):
    """PostgreSQL or Redis, by the scheme of `dsn`. With `fresh_every: 4` every fourth probe makes a new connection."""

    type: Literal["database_connection"]
    dsn: SecretStr
    password: SecretStr | None = None
    query: str | None = None
    expected: str | None = None
    fresh_every: Annotated[int, Field(ge=1)] = 1
    """1 by default: a kept connection does not show that new clients are refused."""

    reasons: ClassVar[tuple[str, ...]] = ("connect", "query", "result")

    @field_validator("dsn")
    @classmethod
    def _can_be_used(cls, dsn: SecretStr) -> SecretStr:
        if (why := dsn_problem(dsn.get_secret_value())) is not None:
            raise ValueError(why)
        return dsn

    @field_validator("expected", mode="before")
    @classmethod
    def _as_text(cls, expected: object) -> object:
        # Users write `expected: 1`; answers are compared as text.
        return str(expected) if isinstance(expected, int) and not isinstance(expected, bool) else expected

    @model_validator(mode="after")
    def _has_a_valid_query(self) -> Self:
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
        """The DSN without secrets."""
        return shown_url(self.dsn.get_secret_value())

    def secrets(self) -> list[str]:
        """See Check.secrets; also the password in the DSN. A DSN without one is not secret."""
        dsn = self.dsn.get_secret_value()
        return [secret for secret in (*super().secrets(), *passwords(dsn)) if secret != shown_url(dsn)]

    async def probe(self, out: ProbeOutput, connections: Connections) -> None:
        """See Check.probe."""
        session = await connections.take(self.id, fresh_every=self.fresh_every)
        kept = session is not None
        try:
            if session is None:
                session = await self._connect(out)
            try:
                answer = await self._query(session, out)
            except Failed as lost:
                if not kept or lost.reason != "connect":
                    raise
                # A kept connection ends when the server restarts. The check is whether a new one works.
                out.log(f"the kept connection was lost ({lost.why}): connecting again")
                await session.drop()
                session, kept = None, False
                session = await self._connect(out)
                answer = await self._query(session, out)
            if self.expected is not None and answer != self.expected:
                shown = "nothing" if answer is None else repr(out.redact(answer)[:LONGEST_SHOWN])
                raise Failed(f"the answer is {shown}, expected {self.expected!r}", reason="result")
        except BaseException:
            if session is not None:
                await session.drop()
            raise
        if self.fresh_every > 1:
            await connections.keep(self.id, session)
        else:
            await session.close()

    async def _connect(self, out: ProbeOutput) -> Session:
        out.log(f"connecting to {self.shown_target}")
        began = perf_counter()
        password = self.password.get_secret_value() if self.password else None
        session = await connect(self.dsn.get_secret_value(), password)
        took = perf_counter() - began
        out.gauge("probe_database_connect_seconds", "Time to connect; absent for a kept connection.", took)
        out.log("connected")
        return session

    async def _query(self, session: Session, out: ProbeOutput) -> str | None:
        began = perf_counter()
        answer = await session.query(self.query or DEFAULT_QUERY[kind(self.dsn.get_secret_value())])
        out.gauge("probe_database_query_seconds", "Duration of the query.", perf_counter() - began)
        out.log("query answered")

        return answer
