"""An impossible downgrade is refused at planning; commits of a tool before its failure are reported."""

from __future__ import annotations

import re

import pytest

from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.projects import AlembicProject
from tests.responder.backends.postgres.test_rollback import approved, in_a_hurry, with_a_place
from tests.responder.backends.postgres.test_tools import alembic, column, versions  # noqa: F401

T3 = "op.create_table('t3', sa.Column('id', sa.Integer, primary_key=True))"
NEEDS_ROWS = "rows = op.get_bind().execute(sa.text('SELECT id FROM users')).all()"


async def at_three(shop: AppDatabase, project: AlembicProject, two: str, *, three: str = "op.drop_table('t3')") -> None:
    """Revision a3 has made t3; a2 is undone by `two`."""
    project.revision("a2", "a1", up=column("nick")["up"], down=two)
    project.revision("a3", "a2", up=T3, down=three)
    await project.upgrade(shop)
    await shop.run("INSERT INTO users VALUES (1, 'ann', 'A'); INSERT INTO t3 VALUES (7), (8)")


@pytest.mark.parametrize(
    "refuses",
    [
        "raise NotImplementedError",
        "raise NotImplementedError('one way')",
        "raise Exception('irreversible')",
        "assert False, 'never'",
    ],
)
@pytest.mark.parametrize("at", ["first", "middle", "last"])
async def test_a_refused_downgrade_changes_nothing(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
    refuses: str,
    at: str,
) -> None:
    downs = {"first": "op.drop_column('users', 'a')", "middle": "op.drop_table('t3')", "last": column("nick")["down"]}
    downs[at] = refuses
    alembic.revision("a4", "a3", up=column("a")["up"], down=downs["first"])
    await at_three(shop, alembic, downs["last"], three=downs["middle"])
    name = {"first": "a4", "middle": "a3", "last": "a2"}[at]
    ended = await shop.rollback("a4", "a1", tool=alembic.tool).run(through=approved)
    assert (ended.outcome, ended.changed, ended.plan) == ("failed", False, None)
    assert re.search(
        rf"revision {name} cannot be downgraded: .*({refuses.split()[1][:9]})?.*nothing was changed", ended.reason
    )
    assert await versions(shop) == ["a4"]
    assert await shop.rows("SELECT id FROM t3 ORDER BY 1") == [(7,), (8,)]


async def test_a_migration_that_cannot_be_rendered_can_run(shop: AppDatabase, alembic: AlembicProject) -> None:  # noqa: F811
    guarded = "from alembic import context\nif context.is_offline_mode(): raise RuntimeError('needs a database')\n"
    await at_three(shop, alembic, guarded + column("nick")["down"])
    ended = await shop.rollback("a3", "a1", tool=alembic.tool).run(through=approved)
    assert ended.outcome == "succeeded", ended.reason
    assert await versions(shop) == ["a1"]
    assert [source for _, source, *_ in await shop.preserved()] == [
        '"t3"'
    ]  # preserved by the responder, although the tool ran a2


async def test_a_failed_step_of_the_tool_keeps_preserved_data(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
) -> None:
    await at_three(shop, alembic, f"{NEEDS_ROWS}\nif rows: raise ValueError('not today')")
    ended = await shop.rollback("a3", "a1", tool=alembic.tool).run(through=approved)
    assert ended.outcome == "reverted", ended.reason
    assert "not today; a2 → a1 changed nothing, but a3 → a2 is committed: the revision is a2" in ended.reason
    assert "a3 → a2 changed nothing" not in ended.reason
    assert await versions(shop) == ["a3"]
    assert await shop.rows("SELECT id FROM t3 ORDER BY 1") == [(7,), (8,)]


async def test_data_destroyed_by_the_tool_is_reported_with_its_copy(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
) -> None:
    fails = f"{NEEDS_ROWS}\nif rows: raise ValueError('not today')"
    await at_three(shop, alembic, fails, three=f"{NEEDS_ROWS}\nop.drop_table('t3')")
    (shop.directory / "kept").mkdir()
    rollback = shop.rollback("a3", "a1", tool=alembic.tool, backup_location="vault")
    rollback = await with_a_place(shop, rollback, str(shop.directory / "kept"))
    ended = await rollback.run(through=lambda plan: in_a_hurry(approved(plan)))
    sentence = "a3 → a2 is committed and destroyed an unknown amount of data (copied to snapshot shop/drill-1"
    assert sentence in ended.reason
    assert "a3 → a2 changed nothing" not in ended.reason
    plan = await shop.rollback("a3", "a1", tool=alembic.tool).plan()
    assert (
        "a3 → a2, a2 → a1: no snapshot is configured, so data that the tool destroys cannot be recovered" in plan.notes
    )
