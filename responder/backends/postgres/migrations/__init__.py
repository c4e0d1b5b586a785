"""The migration tools that are known. Adding one adds a file here, and a field to the resource `schema_revision`."""

from __future__ import annotations

from responder.backends.postgres.migrations.alembic import Alembic
from responder.backends.postgres.migrations.django import Django
from responder.backends.postgres.migrations.programs import OwnCommand, Pgroll, started_by_pgroll
from responder.backends.postgres.migrations.sql_files import SqlFiles
from responder.backends.postgres.migrations.tool import MigrationContext, Stage, Tool

__all__ = [
    "Alembic",
    "Django",
    "MigrationContext",
    "OwnCommand",
    "Pgroll",
    "SqlFiles",
    "Stage",
    "Tool",
    "started_by_pgroll",
]
