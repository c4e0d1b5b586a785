"""The migration tools that are known. Adding one adds a file here, and a field to the lever `schema_revision`."""

from __future__ import annotations

from responder.levers.migrations.alembic import Alembic
from responder.levers.migrations.django import Django
from responder.levers.migrations.programs import OwnCommand, Pgroll, started_by_pgroll
from responder.levers.migrations.sql_files import SqlFiles
from responder.levers.migrations.tool import MigrationContext, Stage, Tool

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
