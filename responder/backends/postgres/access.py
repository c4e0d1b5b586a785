"""Checks whether the role of a database has the privileges that a migration needs."""

from __future__ import annotations

from responder.backends.postgres.schemas import Schemas
from responder.backends.problems import Problem

_STANDBY = "SELECT pg_is_in_recovery() AS standby, current_user::text AS role"

_MAY_CREATE = "SELECT has_database_privilege(current_database(), 'CREATE') AS may"

_NOT_OWNED = """
SELECT c.oid::regclass::text AS name, r.rolname::text AS owner
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_roles AS r ON r.oid = c.relowner
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  AND NOT pg_has_role(c.relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1
"""
"""Relations that PostgreSQL would not let the role alter or drop. Those of extensions are left out."""

_LISTED = 3


async def role_problems(schemas: Schemas, database: str) -> list[Problem]:
    """The missing privileges of the database role. Raises StatementRejected and Unavailable."""
    title = f"database {database}"
    ((standby, role),) = [tuple(row.values()) for row in await schemas.rows(database, _STANDBY)]
    if standby:
        return [Problem(title, "is a standby, which accepts no changes", "configure the primary")]
    found = []
    if not (await schemas.rows(database, _MAY_CREATE))[0]["may"]:
        fix = f"GRANT CREATE ON DATABASE to {role}"
        found.append(Problem(title, f"{role} cannot create the schema rollback_keep", fix))
    if not_owned := await schemas.rows(database, _NOT_OWNED):
        names = ", ".join(f"{row['name']} of {row['owner']}" for row in not_owned[:_LISTED])
        more = f" and {len(not_owned) - _LISTED} more" if len(not_owned) > _LISTED else ""
        fix = f"make {role} the owner, or a member of the role that is"
        found.append(Problem(title, f"{role} does not own {names}{more}", fix))
    return found
