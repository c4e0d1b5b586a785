"""Commands of migration tools whose driver ignores the limits are refused before anything changes."""

from __future__ import annotations

import sys

import pytest

from responder.errors import StepFailed
from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.projects import AlembicProject, DjangoProject
from tests.responder.backends.postgres.test_rollback import approved
from tests.responder.backends.postgres.test_tools import (  # noqa: F401
    alembic,
    column,
    django,
    field,
    own,
    versions,
)

NEEDS_ROWS = "op.get_bind().execute(sa.text('SELECT id FROM users')).all()"
ASYNCPG = "import asyncio, asyncpg, os; asyncio.run(asyncpg.connect({}))"


async def at_two(shop: AppDatabase, alembic: AlembicProject, connect: str) -> None:  # noqa: F811
    """Alembic has to run a2 itself, and env.py connects with these arguments."""
    alembic.revision("a2", "a1", up=column("nick")["up"], down=f"{NEEDS_ROWS}\n{column('nick')['down']}")
    await alembic.upgrade(shop)
    env = alembic.directory / "m" / "env.py"
    env.write_text(env.read_text().replace('"postgresql+psycopg://"', f'"postgresql+psycopg://", {connect}'))


async def test_a_driver_that_ignores_the_limits_is_refused(shop: AppDatabase, alembic: AlembicProject) -> None:  # noqa: F811
    """Its own options replace those of the responder."""
    await at_two(shop, alembic, "connect_args={'options': '-c statement_timeout=0'}")
    ended = await shop.rollback("a2", "a1", tool=alembic.tool).run(through=approved)
    assert (ended.outcome, ended.changed) == ("failed", False)
    assert "current ignores PGOPTIONS: its session would have neither lock_timeout nor a name" in ended.reason
    assert await versions(shop) == ["a2"]


async def test_a_broken_env_py_is_reported_with_its_error(shop: AppDatabase, alembic: AlembicProject) -> None:  # noqa: F811
    await at_two(shop, alembic, "no_such_option=1")
    with pytest.raises(StepFailed, match=r"(?s)ignores PGOPTIONS.*no_such_option"):
        await shop.rollback("a2", "a1", tool=alembic.tool).plan()


async def test_rendered_downgrades_do_not_depend_on_the_driver(shop: AppDatabase, alembic: AlembicProject) -> None:  # noqa: F811
    await at_two(shop, alembic, "connect_args={'options': '-c statement_timeout=0'}")
    alembic.revision("a2", "a1", **column("nick"))
    plan = await shop.rollback("a2", "a1", tool=alembic.tool).plan()
    assert not any("PGOPTIONS" in note for note in plan.notes)


async def test_django_with_its_own_options_is_refused(shop: AppDatabase, django: DjangoProject) -> None:  # noqa: F811
    python = f"{field('size')}, migrations.RunPython(lambda apps, editor: None, lambda apps, editor: None)"
    django.migration("store", "0003_size", ("store", "0002_color"), operations=python)
    await django.migrate(shop)
    settings = django.directory / "settings.py"
    options = '"OPTIONS": {"options": "-c statement_timeout=0"}, "NAME"'
    settings.write_text(settings.read_text().replace('"NAME"', options))
    with pytest.raises(StepFailed, match="showmigrations ignores PGOPTIONS"):
        await shop.rollback("0003_size", "0002_color", tool=django.tool("store")).plan()


@pytest.mark.parametrize(
    ("connect", "obeys"),
    [
        ("", False),
        ("server_settings={'options': os.environ['PGOPTIONS'], 'application_name': os.environ['PGAPPNAME']}", True),
    ],
)
async def test_asyncpg_obeys_only_settings_that_env_py_passes(shop: AppDatabase, connect: str, obeys: bool) -> None:
    argv = (sys.executable, "-c", ASYNCPG.format(connect))
    output = await shop.schemas.run_with_rejected_setting("shop", argv, within=30.0, cwd=None)
    assert output == (None if obeys else "")


async def test_a_command_that_cannot_be_checked_is_reported(shop: AppDatabase) -> None:
    await shop.run("CREATE TABLE users (id int, a int); CREATE TABLE at AS SELECT 2 AS v, '' AS told")
    plan = await shop.rollback(tool=own(shop)).plan()
    assert any(note.startswith("not verified: the command must pass PGOPTIONS") for note in plan.notes)
