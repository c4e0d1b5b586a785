"""Finds objects that the upgrades create and the downgrades leave behind, as generated Alembic migrations do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from responder.backends.postgres.ddl.objects import created_object, dropped_objects
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.sql import Name

_PRESENT = {
    "TYPE": "SELECT FROM pg_type WHERE oid = to_regtype($1)",
    "SEQUENCE": "SELECT FROM pg_class c WHERE oid = to_regclass($1) AND NOT EXISTS (SELECT FROM pg_depend d"
    " WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i'))",
    "EXTENSION": "SELECT FROM pg_extension WHERE extname = $1::text",
}
"""Whether an object exists now. A sequence that a column owns is dropped together with it."""


class Leftover(NamedTuple):
    """One object that a downgrade leaves behind."""

    kind: str
    name: Name

    def __str__(self) -> str:
        return f"the {self.kind.lower()} {self.name}"

    @property
    def drop(self) -> str:
        return f"DROP {self.kind} {self.name}"


def dropped_names(statements: Iterable[str]) -> set[str]:
    """The names of objects and schemas that the statements drop."""
    dropped = [found for sql in statements if (found := dropped_objects(sql))]
    return {name.name for _, names in dropped for name in names}


async def leftovers(schemas: Schemas, database: str, upgrade: Iterable[str], dropped: set[str]) -> tuple[Leftover, ...]:
    """The present objects that the statements of an upgrade create, without the dropped ones."""
    found = []
    for sql in upgrade:
        if (created := created_object(sql)) is None:
            continue
        left = Leftover(*created)
        if {left.name.name, left.name.schema} & dropped:
            continue
        name = left.name.name if left.kind == "EXTENSION" else str(left.name)
        if await schemas.rows(database, _PRESENT[left.kind], name):
            found.append(left)
    return tuple(found)
