"""Alembic projects with several roots, labels, version tables and schemas: our downgrade against that of Alembic."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.backends.postgres.migrations.alembic_sources import Revision, undone_revisions
from responder.errors import StepFailed
from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.differential import DatabaseCopy, tool
from tests.responder.backends.postgres.projects import ALEMBIC, AlembicProject
from tests.responder.backends.postgres.test_rollback import approved, goes_back, in_a_hurry
from tests.responder.backends.postgres.test_tools import alembic, column, versions  # noqa: F401

REVERTS = {"smoke": [{"sql": "SELECT false", "database": "shop"}]}


def table(name: str) -> dict[str, str]:
    return {"up": f"op.create_table({name!r}, sa.Column('id', sa.Integer))", "down": f"op.drop_table({name!r})"}


def set_up(project: AlembicProject, name: str, **fields: str) -> None:
    """Sets branch_labels or depends_on of a revision."""
    file = project.directory / "m" / "versions" / f"{name}.py"
    lines = "\n".join(f"{field} = {value!r}" for field, value in fields.items())
    file.write_text(
        file.read_text().replace("branch_labels = depends_on = None", f"branch_labels = depends_on = None\n{lines}")
    )


async def both_ways(shop: AppDatabase, project: AlembicProject, before: str, argument: str, after: str) -> None:
    """The downgrade equals `alembic downgrade`, and reverting it leaves nothing behind."""
    assert ",".join(await versions(shop)) == before
    twin = DatabaseCopy(shop)
    await twin.split()
    rollback = shop.rollback(before, after, tool=project.tool, **REVERTS)
    ended = await rollback.run(through=lambda plan: in_a_hurry(approved(plan)))
    assert ended.outcome == "reverted", ended.reason
    assert await twin.differences() == []
    tool([*ALEMBIC, "downgrade", argument], project.directory, twin.copy)
    rollback = shop.rollback(before, after, tool=project.tool)
    rollback.version = rollback.version.model_copy(update={"execution": "drill-2"})
    await goes_back(rollback)
    assert await twin.differences() == []


@pytest.mark.parametrize(
    ("argument", "after"),
    [("x@base", "y2"), ("x@x1", "x1,y2"), ("y@base", "x2"), ("base", "base")],
)
async def test_branches_with_roots_of_their_own(shop: AppDatabase, tmp_path: Path, argument: str, after: str) -> None:
    project = AlembicProject(tmp_path / "roots")
    for branch in ("x", "y"):
        project.revision(f"{branch}1", **table(f"{branch}1"))
        set_up(project, f"{branch}1", branch_labels=branch)
        project.revision(f"{branch}2", f"{branch}1", **table(f"{branch}2"))
    await project.upgrade(shop)
    await both_ways(shop, project, "x2,y2", argument, after)


@pytest.mark.parametrize(("argument", "after"), [("x@a1", "y2"), ("x@x1", "x1,y2"), ("a1", "a1")])
async def test_one_branch_of_two(shop: AppDatabase, alembic: AlembicProject, argument: str, after: str) -> None:  # noqa: F811
    for branch in ("x", "y"):
        alembic.revision(f"{branch}1", "a1", **column(f"{branch}1"))
        set_up(alembic, f"{branch}1", branch_labels=branch)
        alembic.revision(f"{branch}2", f"{branch}1", **column(f"{branch}2"))
    await alembic.upgrade(shop)
    await shop.run("INSERT INTO users (id, x1, x2, y1, y2) VALUES (1, 'a', 'b', 'c', 'd')")
    await both_ways(shop, alembic, "x2,y2", argument, after)


async def test_a_label_can_be_a_dependency(shop: AppDatabase, alembic: AlembicProject) -> None:  # noqa: F811
    alembic.revision("a2", "a1", **column("nick"))
    set_up(alembic, "a2", branch_labels="accounts")
    alembic.revision("b1", **table("b"))
    index = {"up": "op.create_index('by_nick', 'users', ['nick'])", "down": "op.drop_index('by_nick')"}
    alembic.revision("b2", "b1", **index)
    set_up(alembic, "b2", depends_on="accounts")
    await alembic.upgrade(shop)
    await both_ways(shop, alembic, "b2", "b2-1", "a2,b1")


async def test_a_revision_that_needs_rows_is_refused_beside_another_head(
    shop: AppDatabase,
    alembic: AlembicProject,  # noqa: F811
) -> None:
    alembic.revision(
        "x1", "a1", up=column("x")["up"], down=f"op.get_bind().scalar(sa.text('SELECT 1')) + 0\n{column('x')['down']}"
    )
    alembic.revision("y1", "a1", **column("y"))
    await alembic.upgrade(shop)
    with pytest.raises(StepFailed, match="revision x1 cannot be downgraded alone"):
        await shop.rollback("x1,y1", "y1", tool=alembic.tool).plan()


async def test_a_target_that_is_not_applied_is_refused(shop: AppDatabase, alembic: AlembicProject) -> None:  # noqa: F811
    alembic.revision("x1", "a1", **column("x"))
    await alembic.upgrade(shop)
    alembic.revision("y1", "a1", **column("y"))
    with pytest.raises(StepFailed, match="cannot downgrade from x1 to y1, which is not before it"):
        await shop.rollback("x1", "y1", tool=alembic.tool).plan()


@pytest.mark.parametrize("ids", [("Rel 1", "Rel 2", "REL (3)"), ("v1.0_a", "v1.1_B", "v1.2~c")])
async def test_unusual_ids(shop: AppDatabase, tmp_path: Path, ids: tuple[str, str, str]) -> None:
    project = AlembicProject(tmp_path / "ids")
    first, second, third = ids
    project.revision(first, up="op.create_table('users', sa.Column('id', sa.Integer))", down="op.drop_table('users')")
    project.revision(second, first, **column("nick"))
    project.revision(third, second, **column("mail"))
    await project.upgrade(shop)
    await both_ways(shop, project, third, first, first)


async def test_each_project_has_its_own_version_table(shop: AppDatabase, tmp_path: Path) -> None:
    """Two in one database: one in a schema, both with the same revision ids."""
    projects = [AlembicProject(tmp_path / name) for name in ("one", "two")]
    await shop.run("CREATE SCHEMA mig")
    options = ("version_table='versions', version_table_schema='mig'", "version_table='other_versions'")
    for project, option in zip(projects, options, strict=True):
        env = project.directory / "m" / "env.py"
        env.write_text(env.read_text().replace("configure(", f"configure({option}, "))
        name = project.directory.name
        project.revision("a1", **table(f"{name}1"))
        project.revision("a2", "a1", **table(f"{name}2"))
        await project.upgrade(shop)
    twin = DatabaseCopy(shop)
    await twin.split()
    for project, versions_table, execution in zip(
        projects, ("mig.versions", "other_versions"), ("d1", "d2"), strict=True
    ):
        tool([*ALEMBIC, "downgrade", "a1"], project.directory, twin.copy)
        settings = {"alembic": {**project.tool["alembic"], "table": versions_table}}
        rollback = shop.rollback("a2", "a1", tool=settings)
        rollback.version = rollback.version.model_copy(update={"execution": execution})
        await goes_back(rollback)
        assert await twin.differences() == []


TENANT = """
    connection.execute(__import__("sqlalchemy").text("SET search_path TO tenant"))
    connection.commit()
"""


async def test_env_py_decides_about_the_schema(shop: AppDatabase, alembic: AlembicProject) -> None:  # noqa: F811
    """A table of the same name in the default schema keeps its columns."""
    await shop.run("CREATE SCHEMA tenant; CREATE TABLE public.users (id int PRIMARY KEY, name text, nick text)")
    env = alembic.directory / "m" / "env.py"
    env.write_text(env.read_text().replace(".connect() as connection:", f".connect() as connection:{TENANT.rstrip()}"))
    env.write_text(env.read_text().replace("\n    connection.", "\n        connection."))
    alembic.revision("a2", "a1", **column("nick"))
    await alembic.upgrade(shop)
    twin = DatabaseCopy(shop)
    await twin.split()
    tool([*ALEMBIC, "downgrade", "a1"], alembic.directory, twin.copy)
    settings = {"alembic": {**alembic.tool["alembic"], "table": "tenant.alembic_version"}}
    ended = await goes_back(shop.rollback("a2", "a1", tool=settings))
    assert await twin.differences() == []
    assert any("env.py uses search_path or schema_translate_map" in note for note in ended.plan.notes)


def test_revisions_are_undone_before_those_that_they_need() -> None:
    history = {
        "a": Revision((), (), ""),
        "b": Revision(("a",), (), ""),
        "c": Revision(("a",), ("b",), ""),
        "m": Revision(("b", "c"), (), ""),
    }
    assert undone_revisions(history, ["m"], []) == ["m", "c", "b", "a"]
    assert undone_revisions(history, ["m"], ["b"]) == ["m", "c"]
    assert undone_revisions(history, ["c"], ["b"]) == ["c"]
