"""Alembic branches that depend on each other (`depends_on`): the responder's downgrade against Alembic's."""

from __future__ import annotations

import pytest

from responder.backends.postgres.migrations.alembic_sources import Revision, heads_without, parse_history
from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.differential import DatabaseCopy, tool
from tests.responder.backends.postgres.projects import ALEMBIC, AlembicProject
from tests.responder.backends.postgres.test_rollback import approved, goes_back, in_a_hurry
from tests.responder.backends.postgres.test_tools import alembic, column, versions  # noqa: F401

TABLE = {"up": "op.create_table('b', sa.Column('id', sa.Integer))", "down": "op.drop_table('b')"}
INDEX = {"up": "op.create_index('by_nick', 'users', ['nick'])", "down": "op.drop_index('by_nick')"}


def depends(alembic: AlembicProject, name: str, on: str) -> None:  # noqa: F811
    file = alembic.directory / "m" / "versions" / f"{name}.py"
    text = file.read_text().replace("branch_labels = depends_on = None", f"branch_labels = None; depends_on = {on!r}")
    file.write_text(text)


async def built(shop: AppDatabase, alembic: AlembicProject, *, more: bool) -> None:  # noqa: F811
    """b2 needs the column of a2, which is on another branch."""
    alembic.revision("a2", "a1", **column("nick"))
    alembic.revision("b1", **TABLE)
    alembic.revision("b2", "b1", **INDEX)
    depends(alembic, "b2", "a2")
    if more:
        alembic.revision("a3", "a2", **column("mail"))
    await alembic.upgrade(shop)


CASES = [  # whether a3 exists, the heads before, the argument of Alembic, the heads after
    (False, "b2", "b2-1", "a2,b1"),
    (False, "b2", "a1", "a1,b1"),
    (False, "b2", "base", "base"),
    (True, "a3,b2", "b1", "a3,b1"),
    (True, "a3,b2", "a1", "a1,b1"),
]


@pytest.mark.parametrize(("more", "before", "argument", "after"), CASES)
async def test_heads_are_recorded_as_alembic_does(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
    more: bool,
    before: str,
    argument: str,
    after: str,
) -> None:
    await built(shop, alembic, more=more)
    assert ",".join(await versions(shop)) == before
    twin = DatabaseCopy(shop)
    await twin.split()
    tool([*ALEMBIC, "downgrade", argument], alembic.directory, twin.copy)
    assert ",".join(await versions(twin.copy)) == after.replace("base", "")
    await goes_back(shop.rollback(before, after, tool=alembic.tool))
    assert await twin.differences() == []
    await alembic.upgrade(shop)


@pytest.mark.parametrize(("more", "before", "argument", "after"), CASES)
async def test_reverting_records_the_heads_again(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
    more: bool,
    before: str,
    argument: str,
    after: str,
) -> None:
    await built(shop, alembic, more=more)
    smoke = [{"sql": "SELECT false", "database": "shop"}]
    rollback = shop.rollback(before, after, tool=alembic.tool, smoke=smoke)
    ended = await rollback.run(through=lambda plan: in_a_hurry(approved(plan)))
    assert ended.outcome == "reverted", ended.reason
    assert ",".join(await versions(shop)) == before


HISTORY = """Rev: m (head) (mergepoint)
Merges: b.1, c1
Also depends on: d1, e1
Path: /srv/m/m.py

    message
    Path: not this one

Rev: c1
Parent: <base>
Path: /srv/m/with space.py
"""


def test_the_history_is_read() -> None:
    assert parse_history(HISTORY) == {
        "m": Revision(("b.1", "c1"), ("d1", "e1"), "/srv/m/m.py"),
        "c1": Revision((), (), "/srv/m/with space.py"),
    }


def test_heads() -> None:
    history = {
        "a1": Revision((), (), ""),
        "b1": Revision(("a1",), (), ""),
        "c1": Revision(("a1",), (), ""),
        "m": Revision(("b1", "c1"), (), ""),
    }
    assert heads_without(history, ["m"], {"m"}) == "b1,c1"
    assert heads_without(history, ["m"], {"m", "b1"}) == "c1"
    assert heads_without(history, ["m"], {"m", "b1", "c1", "a1"}) == "base"
