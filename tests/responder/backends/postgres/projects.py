"""Real Alembic and Django projects with chains of migrations, as users have them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.responder.backends.postgres.conftest import AppDatabase

ALEMBIC = [sys.executable, "-W", "ignore", "-m", "alembic"]
_ENV = """
from alembic import context
from sqlalchemy import create_engine
if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine("postgresql+psycopg://").connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""


class AlembicProject:
    """A directory with `alembic.ini`, and revisions written into it one by one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "m" / "versions").mkdir(parents=True)
        (directory / "alembic.ini").write_text("[alembic]\nscript_location = m\npath_separator = os\n")
        (directory / "m" / "env.py").write_text(_ENV)

    def revision(self, name: str, *after: str, up: str = "pass", down: str = "pass") -> None:
        parents = repr(after[0]) if len(after) == 1 else repr(after) if after else "None"
        lines = {"upgrade": up, "downgrade": down}
        code = "from alembic import op\nimport sqlalchemy as sa\n"
        code += f"revision = {name!r}\ndown_revision = {parents}\nbranch_labels = depends_on = None\n"
        for function, body in lines.items():
            code += f"def {function}():\n" + "".join(f"    {line}\n" for line in body.strip().splitlines())
        (self.directory / "m" / "versions" / f"{name}.py").write_text(code)

    async def upgrade(self, shop: AppDatabase, to: str = "heads") -> None:
        with shop.schemas.environment("shop") as environment:
            ran = subprocess.run(
                [*ALEMBIC, "upgrade", to], cwd=self.directory, env=environment, capture_output=True, text=True
            )
        assert ran.returncode == 0, ran.stderr

    @property
    def tool(self) -> dict[str, Any]:
        return {"alembic": {"command": ALEMBIC, "directory": str(self.directory)}}


MANAGE = [sys.executable, "-W", "ignore", "manage.py"]
_MANAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
_SETTINGS = """
import os
INSTALLED_APPS = ["store", "users"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""


class DjangoProject:
    """A project with two applications whose migrations are written by hand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        (directory / "manage.py").write_text(_MANAGE)
        (directory / "settings.py").write_text(_SETTINGS)
        for app in ("store", "users"):
            (directory / app / "migrations").mkdir(parents=True)
            (directory / app / "__init__.py").touch()
            (directory / app / "migrations" / "__init__.py").touch()

    def migration(self, app: str, name: str, *after: tuple[str, str], operations: str, atomic: bool = True) -> None:
        code = "from django.db import migrations, models\nimport django.db.models.deletion\n"
        code += f"class Migration(migrations.Migration):\n    atomic = {atomic}\n    dependencies = {list(after)!r}\n"
        code += f"    operations = [{operations}]\n"
        (self.directory / app / "migrations" / f"{name}.py").write_text(code)

    async def migrate(self, shop: AppDatabase, *more: str) -> None:
        with shop.schemas.environment("shop") as environment:
            ran = subprocess.run(
                [*MANAGE, "migrate", *more], cwd=self.directory, env=environment, capture_output=True, text=True
            )
        assert ran.returncode == 0, ran.stderr

    def tool(self, *apps: str) -> dict[str, Any]:
        return {"django": {"command": MANAGE, "directory": str(self.directory), "apps": list(apps)}}
