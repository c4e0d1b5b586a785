"""What a gate asks of a database: one value of a query, or that the schema is whole and the one it should be."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from foundation.durations import Duration
from responder.backends.check import Check, Finding
from responder.backends.postgres.catalog import FINGERPRINT, UNSOUND
from responder.backends.postgres.schemas import Schemas
from responder.backends.problems import Problem
from responder.errors import StepFailed


class SqlCheck(Check[Schemas]):
    """A query that returns exactly one value, which is as it should be. It runs in a transaction that cannot write."""

    sql: str = Field(min_length=1, description="The query; NULL, no row or several rows never hold")
    database: str = Field(min_length=1, description="Name of one of `databases`")
    equals: bool | int | float | str | None = Field(default=None, description="The value; true where nothing is given")
    at_least: float | None = Field(default=None, description="Lower bound, included")
    at_most: float | None = Field(default=None, description="Upper bound, included")
    timeout: Duration = Field(default=5.0, gt=0, description="Longest time for the query")

    @model_validator(mode="after")
    def _says_it_once(self) -> SqlCheck:
        if self.equals is not None and (self.at_least, self.at_most) != (None, None):
            raise ValueError("needs equals, or at_least and at_most, not both")
        return self

    async def check_access(self, schemas: Schemas) -> list[Problem]:
        """Raises Refused and Unavailable where the query cannot be asked."""
        rows = await schemas.rows(self.database, self.sql, within=self.timeout)
        if len(rows) != 1 or len(rows[0]) != 1:
            return [Problem(self.sql, f"returns {len(rows)} rows", "it must return one row with one column")]
        return []

    async def holds(self, schemas: Schemas) -> Finding:
        rows = await schemas.rows(self.database, self.sql, within=self.timeout)
        if len(rows) != 1 or len(rows[0]) != 1:
            shape = f"{len(rows)} rows" if len(rows) != 1 else f"{len(rows[0])} columns"
            return Finding(holds=False, reason=f"{self.sql} returned {shape}, wanted one value")
        value = next(iter(rows[0].values()))
        wrong = self._wrong(value)
        return Finding(holds=not wrong, reason=f"{self.sql} is {value}{wrong}")

    def _wrong(self, value: object) -> str:
        """What was wanted instead; empty where it is well."""
        if (self.at_least, self.at_most) != (None, None):
            if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
                return ", wanted a number"
            least, most = self.at_least, self.at_most
            # NaN is neither above nor below anything, so it is asked whether it is within.
            if (least is None or value >= least) and (most is None or value <= most):
                return ""
            bounds = (("at least", least), ("at most", most))
            return f", wanted {' and '.join(f'{word} {bound:g}' for word, bound in bounds if bound is not None)}"
        wanted = True if self.equals is None else self.equals
        if isinstance(wanted, bool) or isinstance(value, bool):
            return "" if value is wanted else f", wanted {wanted}"
        if isinstance(wanted, str):
            return "" if str(value) == wanted else f", wanted {wanted!r}"
        return "" if value == wanted else f", wanted {wanted}"


class Intact(BaseModel):
    """Which schema, and what is known of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database: str = Field(min_length=1, description="Name of one of `databases`")
    fingerprint: str = Field(default="", description="What `responder schema` says of it; empty: any")
    apart_from: tuple[str, ...] = Field(default=(), description="What may be invalid, in the words of this check")


class IntactCheck(Check[Schemas]):
    """No index is invalid, no constraint is left unvalidated, and where told the schema is exactly that one."""

    intact: Intact = Field(description="The schema that must be intact")

    async def check_access(self, schemas: Schemas) -> list[Problem]:
        """Raises Refused and Unavailable where the catalogs cannot be read."""
        await fingerprint(schemas, self.intact.database)
        return []

    async def holds(self, schemas: Schemas) -> Finding:
        expected = self.intact
        wrong = [problem for problem in await unsound(schemas, expected.database) if problem not in expected.apart_from]
        found = await fingerprint(schemas, expected.database)
        if expected.fingerprint and found != expected.fingerprint:
            wrong.append(f"the schema is schema:{found}, wanted schema:{expected.fingerprint}")
        reason = "; ".join(wrong) or f"the schema of {expected.database} is intact (schema:{found})"
        return Finding(holds=not wrong, reason=reason)


def asks(check: object) -> str:
    """The database that a check asks; empty where it asks none."""
    if isinstance(check, IntactCheck):
        return check.intact.database
    return check.database if isinstance(check, SqlCheck) else ""


async def unsound(schemas: Schemas, database: str) -> list[str]:
    """Invalid indexes and constraints that were never validated, each in a few words."""
    return [row["what"] for row in await schemas.rows(database, UNSOUND)]


async def fingerprint(schemas: Schemas, database: str) -> str:
    """The same for two schemas that are the same, however they came to be."""
    rows = await schemas.rows(database, FINGERPRINT)
    if not rows:
        raise StepFailed(f"{database} has no fingerprint")
    return str(rows[0]["fingerprint"])
