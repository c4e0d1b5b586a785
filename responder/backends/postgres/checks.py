"""Checks of a database: the value of a query, and whether the schema is intact."""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field, model_validator

from foundation.durations import Duration
from foundation.models import StrictModel
from responder.backends.check import Check, Finding
from responder.backends.postgres.catalog import FINGERPRINT, INVALID_OBJECTS
from responder.backends.postgres.schemas import Schemas
from responder.backends.problems import Problem
from responder.errors import StepFailed


class SqlCheck(Check[Schemas]):
    """A query in a read-only transaction returns exactly one value, the expected one."""

    sql: str = Field(min_length=1, description="Query; the check fails for NULL, no row or several rows")
    database: str = Field(min_length=1, description="Name of one of `databases`")
    equals: bool | int | float | str | None = Field(default=None, description="Expected value; default: true")
    at_least: float | None = Field(default=None, description="Lower bound, inclusive")
    at_most: float | None = Field(default=None, description="Upper bound, inclusive")
    timeout: Duration = Field(default=5.0, gt=0, description="Timeout of the query")

    @model_validator(mode="after")
    def _has_one_condition(self) -> SqlCheck:
        if self.equals is not None and (self.at_least, self.at_most) != (None, None):
            raise ValueError("set equals, or at_least and at_most, not both")
        return self

    async def check_access(self, schemas: Schemas) -> list[Problem]:
        """Problems of the result. Raises StatementRejected and Unavailable if the query fails."""
        rows = await schemas.rows(self.database, self.sql, within=self.timeout)
        if len(rows) != 1 or len(rows[0]) != 1:
            return [
                Problem(self.sql, f"returns {len(rows)} rows", "write a query that returns one row with one column")
            ]
        return []

    async def holds(self, schemas: Schemas) -> Finding:
        rows = await schemas.rows(self.database, self.sql, within=self.timeout)
        if len(rows) != 1 or len(rows[0]) != 1:
            shape = f"{len(rows)} rows" if len(rows) != 1 else f"{len(rows[0])} columns"
            return Finding(holds=False, reason=f"{self.sql} returned {shape}, expected one value")
        value = next(iter(rows[0].values()))
        mismatch = self._mismatch(value)
        return Finding(holds=not mismatch, reason=f"{self.sql} is {value}{mismatch}")

    def _mismatch(self, value: object) -> str:
        """The expected value as `, expected …`; empty if the value matches."""
        if (self.at_least, self.at_most) != (None, None):
            if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
                return ", expected a number"
            least, most = self.at_least, self.at_most
            # Every comparison with NaN is false, so check that the value is within the bounds.
            if (least is None or value >= least) and (most is None or value <= most):
                return ""
            bounds = (("at least", least), ("at most", most))
            return f", expected {' and '.join(f'{word} {bound:g}' for word, bound in bounds if bound is not None)}"
        expected = True if self.equals is None else self.equals
        if isinstance(expected, bool) or isinstance(value, bool):
            return "" if value is expected else f", expected {expected}"
        if isinstance(expected, str):
            return "" if str(value) == expected else f", expected {expected!r}"
        return "" if value == expected else f", expected {expected}"


class Intact(StrictModel):
    """A schema and its expected state."""

    database: str = Field(min_length=1, description="Name of one of `databases`")
    fingerprint: str = Field(default="", description="Expected fingerprint, from `responder schema`; empty: any")
    known_problems: tuple[str, ...] = Field(default=(), description="Problems to ignore, as this check reports them")


class IntactCheck(Check[Schemas]):
    """No index is invalid, every constraint is validated, and the schema has the fingerprint if one is set."""

    intact: Intact = Field(description="The schema that must be intact")

    async def check_access(self, schemas: Schemas) -> list[Problem]:
        """Raises StatementRejected and Unavailable if the catalogs cannot be read."""
        await fingerprint(schemas, self.intact.database)
        return []

    async def holds(self, schemas: Schemas) -> Finding:
        expected = self.intact
        wrong = [
            problem
            for problem in await invalid_objects(schemas, expected.database)
            if problem not in expected.known_problems
        ]
        found = await fingerprint(schemas, expected.database)
        if expected.fingerprint and found != expected.fingerprint:
            wrong.append(f"the schema is schema:{found}, expected schema:{expected.fingerprint}")
        reason = "; ".join(wrong) or f"the schema of {expected.database} is intact (schema:{found})"
        return Finding(holds=not wrong, reason=reason)


def database_of(check: object) -> str:
    """The database that a check queries; empty if none."""
    if isinstance(check, IntactCheck):
        return check.intact.database
    return check.database if isinstance(check, SqlCheck) else ""


async def invalid_objects(schemas: Schemas, database: str) -> list[str]:
    """Invalid indexes and constraints that are not validated, one phrase each."""
    return [row["problem"] for row in await schemas.rows(database, INVALID_OBJECTS)]


async def fingerprint(schemas: Schemas, database: str) -> str:
    """A hash of 32 hex digits, equal for equal schemas. Raises StepFailed, StatementRejected and Unavailable."""
    rows = await schemas.rows(database, FINGERPRINT)
    if not rows:
        raise StepFailed(f"database {database}: the fingerprint query returned no row")
    return str(rows[0]["fingerprint"])
