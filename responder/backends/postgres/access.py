"""Whether the role of a database may do what a migration does there."""

from __future__ import annotations

from responder.backends.postgres.schemas import Schemas
from responder.backends.problems import Problem

_STANDBY = "SELECT pg_is_in_recovery() AS standby, current_user::text AS role"

_MAY_CREATE = "SELECT has_database_privilege(current_database(), 'CREATE') AS may"

_FOREIGN = """
SELECT c.oid::regclass::text AS name, r.rolname::text AS owner
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_roles AS r ON r.oid = c.relowner
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  AND NOT pg_has_role(c.relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1
"""
"""What belongs to a role that ours is not a member of, and to no extension: ALTER and DROP would be refused."""

_TOLD = 3


async def role_problems(schemas: Schemas, database: str) -> list[Problem]:
    """What the role of the database lacks. Raises Refused and Unavailable."""
    here = f"database {database}"
    ((standby, role),) = [tuple(row.values()) for row in await schemas.rows(database, _STANDBY)]
    if standby:
        return [Problem(here, "is a standby, which takes no changes", "name the primary")]
    found = []
    if not (await schemas.rows(database, _MAY_CREATE))[0]["may"]:
        fix = f"GRANT CREATE ON DATABASE to {role}"
        found.append(Problem(here, f"{role} may not create the schema rollback_keep", fix))
    if foreign := await schemas.rows(database, _FOREIGN):
        names = ", ".join(f"{row['name']} of {row['owner']}" for row in foreign[:_TOLD])
        more = f" and {len(foreign) - _TOLD} more" if len(foreign) > _TOLD else ""
        fix = f"make {role} their owner, or a member of the role that is"
        found.append(Problem(here, f"{role} does not own {names}{more}", fix))
    return found
