"""Alembic, Django, plain SQL, a custom command and pgroll, each in a realistic setup."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from responder.backends.postgres.schema_revision import SchemaRevision
from responder.errors import StepFailed
from responder.rollback.plan import Change, Plan
from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.projects import AlembicProject, DjangoProject
from tests.responder.backends.postgres.test_rollback import USERS, approved, goes_back, in_a_hurry


def changes(plan: Plan) -> list[tuple[Any, Any]]:
    return [(step.before, step.after) for step in plan.steps if isinstance(step, Change)]


# --- Alembic ----------------------------------------------------------------------------------------------------------
USERS_TABLE = "op.create_table('users', sa.Column('id', sa.Integer, primary_key=True), sa.Column('name', sa.Text))"


@pytest.fixture
async def alembic(shop: AppDatabase) -> AlembicProject:
    project = AlembicProject(shop.directory / "alembic")
    project.revision("a1", up=USERS_TABLE, down="op.drop_table('users')")
    return project


def column(name: str) -> dict[str, str]:
    return {
        "up": f"op.add_column('users', sa.Column({name!r}, sa.Text))",
        "down": f"op.drop_column('users', {name!r})",
    }


async def versions(shop: AppDatabase) -> list[str]:
    return [v for (v,) in await shop.rows("SELECT version_num FROM alembic_version ORDER BY 1")]


async def columns(shop: AppDatabase, table: str = "users") -> list[str]:
    sql = f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
    return [name for (name,) in await shop.rows(f"{sql} ORDER BY attnum")]


async def test_alembic_downgrades_several_revisions_in_one_transaction(
    shop: AppDatabase, alembic: AlembicProject
) -> None:
    alembic.revision("a2", "a1", **column("nick"))
    alembic.revision("a3", "a2", **column("mail"))
    await alembic.upgrade(shop)
    await shop.run("INSERT INTO users VALUES (1, 'ann', 'A', 'a@x')")
    ended = await goes_back(shop.rollback("a3", "a1", tool=alembic.tool))
    assert changes(ended.plan) == [("a3", "a1")]
    assert await versions(shop) == ["a1"]
    assert await shop.rows("SELECT * FROM users") == [(1, "ann")]
    await alembic.upgrade(shop)
    for *_, back in await shop.preserved():
        await shop.run(back)
    assert await shop.rows("SELECT * FROM users") == [(1, "ann", "A", "a@x")]


@pytest.mark.soak
async def test_alembic_downgrades_and_upgrades_again(shop: AppDatabase, alembic: AlembicProject) -> None:
    alembic.revision("a2", "a1", **column("nick"))
    await alembic.upgrade(shop)
    await shop.run("INSERT INTO users VALUES (1, 'ann', 'A')")
    rollback = shop.rollback("a2", "a1", tool=alembic.tool, smoke=[{"sql": "SELECT false", "database": "shop"}])
    ended = await rollback.run(through=lambda plan: in_a_hurry(approved(plan)))
    assert ended.outcome == "reverted", ended.reason
    assert await versions(shop) == ["a2"]
    assert await shop.rows("SELECT * FROM users") == [(1, "ann", "A")]


@pytest.mark.soak
async def test_alembic_downgrades_to_base(shop: AppDatabase, alembic: AlembicProject) -> None:
    await alembic.upgrade(shop)
    await goes_back(shop.rollback("a1", "base", tool=alembic.tool))
    assert await versions(shop) == []
    assert await shop.value("SELECT to_regclass('users')") is None
    await alembic.upgrade(shop)


@pytest.mark.parametrize(
    ("version", "goal", "left", "there"),
    [
        ("m", "b1", "b1,c1", ["id", "name", "b", "c"]),  # only the merge is reverted
        pytest.param("m", "a1", "a1", ["id", "name"], marks=pytest.mark.soak),  # both branches as well
        ("b1,c1", "a1", "a1", ["id", "name"]),
        pytest.param("b1,c1", "b1,a1", "", [], marks=pytest.mark.soak),
    ],
)
async def test_alembic_downgrades_branches_and_merges(
    shop: AppDatabase, alembic: AlembicProject, version: str, goal: str, left: str, there: list[str]
) -> None:
    alembic.revision("b1", "a1", **column("b"))
    alembic.revision("c1", "a1", **column("c"))
    if version == "m":
        alembic.revision("m", "b1", "c1")
    await alembic.upgrade(shop)
    rollback = shop.rollback(version, goal, tool=alembic.tool, approval="never")
    if not left:
        with pytest.raises(StepFailed):
            await rollback.plan()
        return
    if left != goal:
        with pytest.raises(StepFailed, match="the downgrade from m to b1 ends at b1,c1"):
            await rollback.plan()
        rollback = shop.rollback(version, left, tool=alembic.tool, approval="never")
    assert (await rollback.run()).outcome == "succeeded"
    assert ",".join(await versions(shop)) == left
    assert sorted(await columns(shop)) == sorted(there)
    await alembic.upgrade(shop)


async def test_alembic_runs_what_cannot_be_rendered_one_revision_at_a_time(
    shop: AppDatabase, alembic: AlembicProject
) -> None:
    alembic.revision("a2", "a1", **column("nick"))
    needs_rows = "for row in op.get_bind().execute(sa.text('SELECT id FROM users')): pass"
    alembic.revision("a3", "a2", up=column("mail")["up"], down=f"{needs_rows}\n{column('mail')['down']}")
    await alembic.upgrade(shop)
    await shop.run("INSERT INTO users VALUES (1, 'ann', 'A', 'a@x')")
    rollback = shop.rollback("a3", "a1", tool=alembic.tool)
    held = await rollback.run()
    assert changes(held.plan) == [("a3", "a2"), ("a2", "a1")]
    assert "the losses of" in held.reason
    await goes_back(shop.rollback("a3", "a1", tool=alembic.tool))
    assert await versions(shop) == ["a1"]


async def test_alembic_with_an_autocommit_block_runs_one_revision_at_a_time(
    shop: AppDatabase, alembic: AlembicProject
) -> None:
    alone = "with op.get_context().autocommit_block():\n    op.{}_index('i', {}postgresql_concurrently=True)".format
    alembic.revision("a2", "a1", up=alone("create", "'users', ['name'], "), down=alone("drop", ""))
    alembic.revision("a3", "a2", **column("mail"))
    await alembic.upgrade(shop)
    ended = await goes_back(shop.rollback("a3", "a1", tool=alembic.tool))
    assert changes(ended.plan) == [("a3", "a2"), ("a2", "a1")]
    assert any("DROP INDEX CONCURRENTLY" in note for note in ended.plan.notes)
    assert await versions(shop) == ["a1"]
    assert await shop.rows("SELECT done, parts FROM rollback_keep.progress") == [(2, 2)]


async def test_migration_files_of_the_wrong_release_are_reported(shop: AppDatabase, alembic: AlembicProject) -> None:
    alembic.revision("a2", "a1", **column("nick"))
    await alembic.upgrade(shop)
    (alembic.directory / "m" / "versions" / "a2.py").unlink()
    with pytest.raises(StepFailed, match="Can't locate revision identified by 'a2'"):
        await shop.rollback("a2", "a1", tool=alembic.tool).plan()
    tool = {"alembic": {**alembic.tool["alembic"], "directory": str(shop.directory / "{version}")}}
    with pytest.raises(
        StepFailed, match=r"directory .*/a2 does not exist: keep the migration files of the running release"
    ):
        await shop.rollback("a2", "a1", tool=tool).plan()
    (shop.directory / "a2").symlink_to(alembic.directory)
    alembic.revision("a2", "a1", **column("nick"))
    await goes_back(shop.rollback("a2", "a1", tool=tool))


# --- Django -----------------------------------------------------------------------------------------------------------
PRODUCT = (
    "migrations.CreateModel('Product', [('id', models.AutoField(primary_key=True)), ('name', models.TextField())])"
)


def field(name: str, model: str = "product") -> str:
    return f"migrations.AddField({model!r}, {name!r}, models.TextField(null=True))"


@pytest.fixture
async def django(shop: AppDatabase) -> DjangoProject:
    project = DjangoProject(shop.directory / "django")
    project.migration("store", "0001_initial", operations=PRODUCT)
    project.migration("store", "0002_color", ("store", "0001_initial"), operations=field("color"))
    return project


async def test_django_downgrades_in_one_transaction(shop: AppDatabase, django: DjangoProject) -> None:
    django.migration("store", "0003_size", ("store", "0002_color"), operations=field("size"))
    await django.migrate(shop)
    await shop.run("INSERT INTO store_product (name, color, size) VALUES ('hat', 'red', 'L')")
    ended = await goes_back(shop.rollback("0003_size", "0001_initial", tool=django.tool("store")))
    assert changes(ended.plan) == [("0003_size", "0001_initial")]
    assert await columns(shop, "store_product") == ["id", "name"]
    applied = await shop.rows("SELECT name FROM django_migrations WHERE app = 'store' ORDER BY 1")
    assert applied == [("0001_initial",)]
    await django.migrate(shop)
    for *_, back in await shop.preserved():
        await shop.run(back)
    assert await shop.rows("SELECT name, color, size FROM store_product") == [("hat", "red", "L")]


@pytest.mark.soak
async def test_django_drops_a_table_and_reverts(shop: AppDatabase, django: DjangoProject) -> None:
    order = (
        "migrations.CreateModel('Order', [('id', models.BigAutoField(primary_key=True)),"
        " ('product', models.ForeignKey('store.product', django.db.models.deletion.CASCADE))])"
    )
    django.migration("store", "0003_order", ("store", "0002_color"), operations=order)
    await django.migrate(shop)
    await shop.run(
        "INSERT INTO store_product VALUES (1, 'hat', 'red'); INSERT INTO store_order (product_id) VALUES (1)"
    )
    rollback = shop.rollback(
        "0003_order", "0002_color", tool=django.tool("store"), smoke=[{"sql": "SELECT false", "database": "shop"}]
    )
    ended = await rollback.run(through=lambda plan: in_a_hurry(approved(plan)))
    assert ended.outcome == "reverted", ended.reason
    assert await shop.rows("SELECT id, product_id FROM store_order") == [(1, 1)]
    await shop.run("INSERT INTO store_order (product_id) VALUES (1)")  # its sequence continues
    rollback = shop.rollback("0003_order", "0001_initial", tool=django.tool("store"))
    rollback.version = rollback.version.model_copy(update={"execution": "drill-2"})
    await goes_back(rollback)


async def test_django_runs_python_migrations_one_at_a_time(shop: AppDatabase, django: DjangoProject) -> None:
    python = f"{field('size')}, migrations.RunPython(lambda apps, editor: None, lambda apps, editor: None)"
    django.migration("store", "0003_size", ("store", "0002_color"), operations=python)
    await django.migrate(shop)
    rollback = shop.rollback("0003_size", "0001_initial", tool=django.tool("store"))
    plan = await rollback.plan()
    assert changes(plan) == [("0003_size", "0002_color"), ("0002_color", "0001_initial")]
    assert "0003_size runs Python, whose effect on rows is unknown" in plan.irreversible
    assert any("store_product" in note and "LOST" in note for note in plan.notes)
    await goes_back(rollback)
    assert await columns(shop, "store_product") == ["id", "name"]


async def test_django_downgrades_merges_and_two_applications(shop: AppDatabase, django: DjangoProject) -> None:
    django.migration("store", "0003_a", ("store", "0002_color"), operations=field("a"))
    django.migration("store", "0003_b", ("store", "0002_color"), operations=field("b"))
    django.migration("store", "0004_merge", ("store", "0003_a"), ("store", "0003_b"), operations="")
    django.migration("users", "0001_initial", ("store", "0004_merge"), operations=PRODUCT.replace("Product", "Fan"))
    await django.migrate(shop)
    with pytest.raises(StepFailed, match="also reverts migrations of users: add them to `apps`"):
        await shop.rollback("0004_merge", "0002_color", tool=django.tool("store")).plan()
    with pytest.raises(StepFailed, match="must name one migration for each of store, users"):
        await shop.rollback("store.0004_merge,users.0001_initial", "0002", tool=django.tool("store", "users")).plan()
    rollback = shop.rollback(
        "store.0004_merge,users.0001_initial", "store.0002_color,users.zero", tool=django.tool("store", "users")
    )
    await goes_back(rollback)
    assert await columns(shop, "store_product") == ["id", "name", "color"]
    assert await shop.value("SELECT to_regclass('users_fan')") is None
    await django.migrate(shop)


async def test_an_irreversible_django_migration_fails(shop: AppDatabase, django: DjangoProject) -> None:
    django.migration("store", "0003_sql", ("store", "0002_color"), operations="migrations.RunSQL('SELECT 1')")
    await django.migrate(shop)
    with pytest.raises(StepFailed, match=r"migration store\.0003_sql is irreversible: .*IRREVERSIBLE"):
        await shop.rollback("0003_sql", "0002_color", tool=django.tool("store")).plan()


# --- plain SQL --------------------------------------------------------------------------------------------------------
async def test_sql_downgrades_several_files(shop: AppDatabase) -> None:
    await shop.apply(USERS, "ALTER TABLE users ADD a int", "ALTER TABLE users ADD b int")
    shop.file(2, "ALTER TABLE users DROP a")
    shop.file(3, "ALTER TABLE users DROP b")
    await goes_back(shop.rollback("3", "1"))
    assert await columns(shop) == ["id", "name"]


async def test_sql_runs_one_revision_at_a_time_with_concurrent_indexes(shop: AppDatabase) -> None:
    await shop.apply(
        USERS,
        "ALTER TABLE users ADD a text; UPDATE users SET a = name",
        "ALTER TABLE users RENAME TO people",
        "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1); CREATE INDEX i ON people (a)",
    )
    shop.file(4, "DROP TABLE orders; DROP INDEX CONCURRENTLY i")
    shop.file(3, "ALTER TABLE people RENAME TO users; DROP INDEX CONCURRENTLY IF EXISTS i")
    shop.file(2, "ALTER TABLE users DROP a")
    ended = await goes_back(shop.rollback("4", "1"))
    assert changes(ended.plan) == [("4", "3"), ("3", "2"), ("2", "1")]
    assert await columns(shop) == ["id", "name"]
    assert len(await shop.preserved()) == 2


@pytest.mark.parametrize(
    ("down", "why"),
    [
        ("BEGIN; DROP TABLE users; ROLLBACK", r"002_step.down.sql contains ROLLBACK: remove it"),
        ("DROP TABLE users; SELECT 'open", "cannot read 002_step.down.sql: cannot be split into statements"),
        (
            None,
            r"has no 002\*.down.sql: the migration files of the running release must contain every downgrade",
        ),
    ],
)
async def test_invalid_sql_files_are_refused(shop: AppDatabase, down: str | None, why: str) -> None:
    await shop.apply(USERS, "SELECT 1")
    shop.file(1, "SELECT 1") if down is None else shop.file(2, down)
    with pytest.raises(StepFailed, match=why):
        await shop.rollback().plan()


async def test_sql_supports_the_table_of_golang_migrate(shop: AppDatabase) -> None:
    await shop.run(f"{USERS}; ALTER TABLE users ADD a int; CREATE TABLE schema_migrations (version bigint, dirty bool)")
    await shop.run("INSERT INTO schema_migrations VALUES (2, true)")
    shop.file(1, "DROP TABLE users")
    shop.file(2, "ALTER TABLE users DROP a")
    with pytest.raises(StepFailed, match="schema_migrations is dirty"):
        await shop.rollback().plan()
    await shop.run("UPDATE schema_migrations SET dirty = false")
    await goes_back(shop.rollback())
    assert await shop.rows("SELECT * FROM schema_migrations") == [(1, False)]


# --- a custom command, and pgroll -------------------------------------------------------------------------------------
SCRIPT = """
import os, sys, psycopg
old, new, fail = sys.argv[1], sys.argv[2], sys.argv[3:]
with psycopg.connect(os.environ.get("URL", "")) as connection:
    print(connection.execute("SHOW lock_timeout").fetchone(), connection.execute("SHOW application_name").fetchone())
    connection.execute("ALTER TABLE users " + ("DROP COLUMN IF EXISTS a" if int(new) < int(old) else "ADD a int"))
    connection.execute("UPDATE at SET v = %s, told = current_setting('application_name')", [new])
    if fail: sys.exit("no, not today")
"""


def own(shop: AppDatabase, *more: str, **other: Any) -> dict[str, Any]:
    (shop.directory / "go.py").write_text(SCRIPT)
    argv = [sys.executable, str(shop.directory / "go.py"), "{from}", "{to}"]
    command = {"current": "SELECT v FROM at", "downgrade": [*argv, *more], "upgrade": argv, **other}
    return {"command": command}


async def test_a_custom_command_downgrades(shop: AppDatabase) -> None:
    await shop.run(f"{USERS}; ALTER TABLE users ADD a int; CREATE TABLE at AS SELECT 2 AS v, '' AS told")
    shop = AppDatabase(shop.dsn, shop.directory, URL="postgresql://{user}:{password}@{host}:{port}/{database}")
    plan = [sys.executable, "-c", "print('ALTER TABLE users DROP COLUMN a')"]
    rollback = shop.rollback(tool=own(shop, plan=plan))
    made = await rollback.plan()
    assert made.irreversible == 'drops "users"."a"'
    await goes_back(rollback)
    assert await shop.rows("SELECT * FROM at") == [(1, "rollback:drill-1")]


async def test_a_command_that_fails_leaves_nothing_behind(shop: AppDatabase) -> None:
    await shop.run(f"{USERS}; ALTER TABLE users ADD a int; CREATE TABLE at AS SELECT 2 AS v, '' AS told")
    ended = await shop.rollback(tool=own(shop, "fail")).run(through=approved)
    assert ended.outcome == "failed"
    assert "no, not today; 2 → 1 changed nothing: the revision is 2" in ended.reason


async def test_a_partly_completed_command_freezes(shop: AppDatabase) -> None:
    await shop.run(f"{USERS}; ALTER TABLE users ADD a int; CREATE TABLE at AS SELECT 2 AS v, '' AS told")
    half = [
        sys.executable,
        "-c",
        "import psycopg; psycopg.connect('', autocommit=True).execute('DROP TABLE users'); 1/0",
    ]
    ended = await shop.rollback(tool={"command": {"current": "SELECT v FROM at", "downgrade": half}}).run(
        through=approved
    )
    assert ended.state == "stuck"
    assert (
        "the schema of shop is partly migrated (2 → 1): the revision is 2; 2 → 1 may have destroyed an unknown"
        in ended.reason
    )
    assert "Migrate to 1 by hand" in ended.reason


async def test_a_tool_is_retried_after_lock_errors(shop: AppDatabase) -> None:
    await shop.run(f"{USERS}; ALTER TABLE users ADD a int; CREATE TABLE at AS SELECT 2 AS v, '' AS told")
    async with shop.session() as other:
        await other.execute("BEGIN; SELECT a FROM users")
        ended = await shop.rollback(tool=own(shop)).run(through=approved)
        assert "LockNotAvailable" in ended.reason
        assert "2 → 1 changed nothing" in ended.reason
    assert (await shop.rollback(tool=own(shop)).run(through=approved)).outcome == "succeeded"


async def test_pgroll_is_detected(shop: AppDatabase) -> None:
    """Not the real pgroll: its table as documented, and a stand-in for its command."""
    await shop.run(
        "CREATE SCHEMA pgroll; CREATE TABLE pgroll.migrations (schema name, name text, migration jsonb, created_at"
        " timestamptz DEFAULT now(), updated_at timestamptz, parent text, done bool DEFAULT false);"
        "INSERT INTO pgroll.migrations (schema, name, parent) VALUES ('public', '02_add', '01_first')"
    )
    undo = "UPDATE pgroll.migrations SET name = '01_first', parent = NULL, done = true"
    stand_in = f"import psycopg; psycopg.connect('', autocommit=True).execute({undo!r})"
    tool = {"pgroll": {"command": [sys.executable, "-c", stand_in]}}
    await shop.apply(USERS, "SELECT 1")
    shop.file(2, "SELECT 1")
    with pytest.raises(StepFailed, match="pgroll has started 02_add in shop"):
        await shop.rollback().plan()
    assert (await shop.rollback("02_add", "01_first", tool=tool).run()).outcome == "succeeded"
    await shop.run("UPDATE pgroll.migrations SET done = true, parent = '00_none'")
    with pytest.raises(StepFailed, match="pgroll has completed 01_first and removed the old schema"):
        await shop.rollback("01_first", "00_none", tool=tool).plan()


# --- errors -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "needs exactly one of alembic, django, sql, command, pgroll"),
        ({"alembic": {}, "pgroll": {}}, "needs exactly one of"),
        ({"alembic": {"directory": "/srv/{verison}"}}, r"unknown placeholder {verison}: expected one of {version}"),
        (
            {"command": {"current": "SELECT 1", "downgrade": ["{form}"]}},
            r"unknown placeholder {form}: expected one of {version}",
        ),
        ({"django": {}}, "apps"),
    ],
)
def test_wrong_arguments_are_reported(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        SchemaRevision.model_validate({"database": "shop", **options})


@pytest.mark.parametrize("version", ["../../etc", "/etc", "a/../../b"])
async def test_a_version_cannot_leave_the_directory(shop: AppDatabase, version: str) -> None:
    await shop.apply(USERS, "SELECT 1")
    tool = {"sql": {"directory": "/srv/{version}"}, "revisions": {version: "2"}}
    with pytest.raises(StepFailed, match="is not allowed in the path"):
        await shop.rollback(version, "1", tool=tool).plan()


async def test_plans_and_tool_output_contain_no_password(shop: AppDatabase, tmp_path: Path) -> None:
    await shop.run(f"{USERS}; CREATE TABLE at AS SELECT 2 AS v, '' AS told")
    variables = {"URL": "://{user}:{password}@", "KEY": "k3y-word"}
    shop = AppDatabase(shop.dsn.replace("postgres@", "postgres:s3cr3t-word@"), tmp_path, **variables)
    loud = [sys.executable, "-c", "import os, sys; sys.exit(str([os.environ[n] for n in ('URL', 'KEY')]))"]
    rollback = shop.rollback(tool={"command": {"current": "SELECT v FROM at", "downgrade": loud}})
    assert "-word" not in (await rollback.plan()).model_dump_json()
    ended = await rollback.run(through=approved)
    assert "['***', '***']" in ended.reason
    assert "-word" not in ended.reason
