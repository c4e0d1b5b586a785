"""The migration tools. To add one, write its module and add one line here.

Other distributions add entry points of the group `rollback_responder.migration_tools`.
"""

from __future__ import annotations

from foundation.registry import Registry
from responder.backends.postgres.migrations.tool import MigrationTool

MIGRATION_TOOLS: Registry[MigrationTool] = Registry(
    "migration tool",
    group="rollback_responder.migration_tools",
    tag="tool",
    builtin={
        "alembic": "responder.backends.postgres.migrations.alembic:Alembic",
        "django": "responder.backends.postgres.migrations.django:Django",
        "sql": "responder.backends.postgres.migrations.sql_files:SqlFiles",
        "command": "responder.backends.postgres.migrations.own_command:OwnCommand",
        "pgroll": "responder.backends.postgres.migrations.pgroll:Pgroll",
    },
)
