"""Alembic migrations that `--sql` does not show in full: the responder's downgrade against Alembic's."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from responder.backends.postgres.migrations.alembic_sources import Revision
from responder.errors import StepFailed
from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.differential import DatabaseCopy, tool
from tests.responder.backends.postgres.projects import ALEMBIC, AlembicProject
from tests.responder.backends.postgres.test_rollback import approved, goes_back, in_a_hurry
from tests.responder.backends.postgres.test_tools import alembic, column, versions  # noqa: F401

FILL = "op.execute(\"UPDATE users SET name = first || ' ' || last\")"
UP = (
    "op.add_column('users', sa.Column('first', sa.Text)); op.add_column('users', sa.Column('last', sa.Text))\n"
    "op.execute(\"UPDATE users SET first = split_part(name,' ',1), last = split_part(name,' ',2)\")\n"
    "op.drop_column('users', 'name')"
)


def down(fill: str) -> str:
    add, drop = "op.add_column('users', sa.Column('name', sa.Text))", "op.drop_column('users', '{}')"
    return f"{add}\n{fill}\n{drop.format('first')}; {drop.format('last')}"


class Guard(NamedTuple):
    """How the downgrade tests for a connection, with code at the top of the file or in a module of the project."""

    fill: str
    head: str = ""
    module: str = ""


ASKS = "from alembic import context\ndef online(): return not context.is_offline_mode()\n"
GUARDS = {
    "is_offline_mode": Guard(f"from alembic import context\nif not context.is_offline_mode(): {FILL}"),
    "the connection": Guard(f"if op.get_bind() is not None: {FILL}"),
    "as_sql": Guard(f"if not op.get_context().as_sql: {FILL}"),
    "a function of the file": Guard(f"if online(): {FILL}", head=ASKS),
    "a variable of the file": Guard(f"if ask(): {FILL}", head=f"{ASKS}ask = online\n"),
    "a module of the project": Guard(f"if online(): {FILL}", head="from helpers import online\n", module=ASKS),
    "an attribute of a module": Guard(f"if helpers.online(): {FILL}", head="import helpers\n", module=ASKS),
    "print": Guard(f"print('filling the names')\n{FILL}"),
    "a printed quote": Guard(f'print("it\'s filled")\n{FILL}'),
    "print in a module": Guard(f"say()\n{FILL}", head="from helpers import say\n", module="def say(): print('x')\n"),
}


def at_two(alembic: AlembicProject, guard: Guard) -> Path:  # noqa: F811
    alembic.revision("a2", "a1", up=UP, down=down(guard.fill))
    file = alembic.directory / "m" / "versions" / "a2.py"
    file.write_text(f"{guard.head}{file.read_text()}")
    if guard.module:
        (alembic.directory / "helpers.py").write_text(guard.module)
        ini = alembic.directory / "alembic.ini"
        ini.write_text(ini.read_text() + "prepend_sys_path = .\n")
    return file


@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
async def test_alembic_runs_what_its_sql_does_not_show(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
    guard: Guard,
) -> None:
    await alembic.upgrade(shop)
    await shop.run("INSERT INTO users VALUES (1, 'Ann Lee')")
    at_two(alembic, guard)
    alembic.revision("a3", "a2", **column("nick"))
    await alembic.upgrade(shop)
    twin = DatabaseCopy(shop)
    await twin.split()
    tool([*ALEMBIC, "downgrade", "a1"], alembic.directory, twin.copy)
    ended = await goes_back(shop.rollback("a3", "a1", tool=alembic.tool))
    assert await twin.differences() == []
    assert await shop.rows("SELECT id, name FROM users") == [(1, "Ann Lee")]
    assert any("downgrade a1 (its downgrade uses " in note for note in ended.plan.notes), ended.plan.notes
    assert [source for _, source, *_ in await shop.preserved()] == ['"users"']  # the responder ran a3


async def test_text_is_recognized_where_the_file_cannot_be_read(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a container: only the output of the command reaches the responder."""
    await alembic.upgrade(shop)
    await shop.run("INSERT INTO users VALUES (1, 'Ann Lee')")
    at_two(alembic, GUARDS["print"])
    await alembic.upgrade(shop)
    monkeypatch.setattr(Revision, "unrendered", lambda *_: None)
    ended = await goes_back(shop.rollback("a2", "a1", tool=alembic.tool))
    assert await shop.rows("SELECT id, name FROM users") == [(1, "Ann Lee")]
    assert any("no SQL: filling the names" in note for note in ended.plan.notes)


async def test_an_unreadable_file_is_reported(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alembic.revision("a2", "a1", **column("nick"))
    await alembic.upgrade(shop)
    monkeypatch.setattr(Revision, "unrendered", lambda *_: None)
    plan = await shop.rollback("a2", "a1", tool=alembic.tool).plan()
    assert any("cannot read the migration file of a2" in note for note in plan.notes)


async def test_a_downgrade_that_is_shown_in_full_is_run_by_the_responder(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
) -> None:
    """Although the upgrade looks at its connection, and an unused function of the file as well."""
    alembic.revision("a2", "a1", up=f"{column('nick')['up']}\nop.get_bind()", down=column("nick")["down"])
    file = alembic.directory / "m" / "versions" / "a2.py"
    file.write_text(f"{ASKS}{file.read_text()}")
    await alembic.upgrade(shop)
    await shop.run("INSERT INTO users VALUES (1, 'Ann Lee', 'ann')")
    ended = await goes_back(shop.rollback("a2", "a1", tool=alembic.tool))
    assert any("only Alembic can upgrade to a2 again: its upgrade uses get_bind" in n for n in ended.plan.notes)
    assert [source for _, source, *_ in await shop.preserved()] == ['"users"']


async def test_reverting_runs_the_online_part_of_the_upgrade(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
) -> None:
    at_two(alembic, GUARDS["is_offline_mode"])
    await alembic.upgrade(shop)
    await shop.run("INSERT INTO users VALUES (1, 'Ann', 'Lee')")
    rollback = shop.rollback("a2", "a1", tool=alembic.tool, smoke=[{"sql": "SELECT false", "database": "shop"}])
    ended = await rollback.run(through=lambda plan: in_a_hurry(approved(plan)))
    assert ended.outcome == "reverted", ended.reason
    assert await versions(shop) == ["a2"]
    assert await shop.rows("SELECT id, first, last FROM users") == [(1, "Ann", "Lee")]


async def test_branches_with_online_work_are_refused(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
) -> None:
    at_two(alembic, GUARDS["is_offline_mode"])
    alembic.revision("b2", "a1", **column("b"))
    await alembic.upgrade(shop)
    with pytest.raises(StepFailed, match="revision a2 cannot be downgraded alone: its downgrade uses is_offline_mode"):
        await shop.rollback("a2,b2", "a1", tool=alembic.tool).plan()


@pytest.mark.parametrize("ids", [("1.0", "1.1", "1.2"), ("rel_2024.01", "rel_2024.02", "rel_2024.03")])
async def test_ids_with_dots(shop: AppDatabase, tmp_path: Path, ids: tuple[str, str, str]) -> None:
    project = AlembicProject(tmp_path / "dots")
    first, second, third = ids
    project.revision(first, up="op.create_table('users', sa.Column('id', sa.Integer))", down="op.drop_table('users')")
    project.revision(second, first, **column("nick"))
    needs_rows = "op.get_bind().execute(sa.text('SELECT id FROM users')).all()"
    project.revision(third, second, up=column("mail")["up"], down=f"{needs_rows}\n{column('mail')['down']}")
    await project.upgrade(shop)
    twin = DatabaseCopy(shop)
    await twin.split()
    tool([*ALEMBIC, "downgrade", first], project.directory, twin.copy)
    await goes_back(shop.rollback(third, first, tool=project.tool))
    assert await twin.differences() == []


async def test_text_that_env_py_prints_at_the_end_is_no_statement(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
) -> None:
    env = alembic.directory / "m" / "env.py"
    env.write_text(env.read_text() + "\nprint('all done')\n")
    alembic.revision("a2", "a1", **column("nick"))
    await alembic.upgrade(shop)
    await goes_back(shop.rollback("a2", "a1", tool=alembic.tool))
    assert await versions(shop) == ["a1"]


async def test_log_lines_on_stdout_are_no_statements(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
) -> None:
    """Alembic logs each revision before it renders it; an application may configure logging to stdout."""
    env = alembic.directory / "m" / "env.py"
    log = 'logging.basicConfig(stream=sys.stdout, level="INFO", format="%(asctime)s [%(levelname)s] %(message)s")'
    env.write_text(f"import logging, sys\n{log}\n{env.read_text()}")
    alembic.revision("a2", "a1", **column("nick"))
    alembic.revision("a3", "a2", **column("size"))
    await alembic.upgrade(shop)
    (change,) = [
        step for step in (await shop.rollback("a3", "a1", tool=alembic.tool).plan()).steps if step.kind == "change"
    ]
    assert '"users"."nick"' in change.irreversible
    assert '"users"."size"' in change.irreversible
    await goes_back(shop.rollback("a3", "a1", tool=alembic.tool))
    assert await versions(shop) == ["a1"]
