"""Squashed migrations of Django: the responder's downgrade against Django's, with its table of migrations."""

from __future__ import annotations

import pytest

from responder.backends.postgres.migrations.django import Django, _newest
from responder.errors import StepFailed
from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.differential import DatabaseCopy, tool
from tests.responder.backends.postgres.projects import MANAGE, DjangoProject
from tests.responder.backends.postgres.test_rollback import approved, goes_back, in_a_hurry
from tests.responder.backends.postgres.test_tools import columns, django, field  # noqa: F401

SQUASH = "0001_squashed_0002_color"
RECORDS = "SELECT id, app, name, applied FROM django_migrations ORDER BY id"
NAMES = "SELECT app, name FROM django_migrations WHERE app IN ('store', 'users') ORDER BY 1, 2"


def squashed(shop: AppDatabase, project: DjangoProject) -> None:
    tool([*MANAGE, "squashmigrations", "store", "0002", "--noinput"], project.directory, shop)
    assert (project.directory / "store" / "migrations" / f"{SQUASH}.py").exists()


def size(project: DjangoProject, after: str = SQUASH) -> None:
    project.migration("store", "0003_size", ("store", after), operations=field("size"))


async def before_the_squash(shop: AppDatabase, project: DjangoProject) -> None:
    """The database has applied the migrations one by one, then the squash arrives with a new one."""
    await project.migrate(shop)
    squashed(shop, project)
    size(project)
    await project.migrate(shop)


async def with_the_squash(shop: AppDatabase, project: DjangoProject) -> None:
    """A new database, which has only ever seen the squash."""
    squashed(shop, project)
    size(project)
    await project.migrate(shop)


async def late(shop: AppDatabase, project: DjangoProject) -> None:
    """The squash arrives after the newest migration, so Django records it last."""
    size(project, "0002_color")
    await project.migrate(shop)
    squashed(shop, project)
    await project.migrate(shop)


async def unrecorded(shop: AppDatabase, project: DjangoProject) -> None:
    """The files of the squash are there, but `migrate` has not run since."""
    size(project, "0002_color")
    await project.migrate(shop)
    squashed(shop, project)


HISTORIES = [before_the_squash, with_the_squash, late, unrecorded]


@pytest.mark.parametrize("goal", [SQUASH, "0002_color", "zero"])
@pytest.mark.parametrize("history", HISTORIES)
async def test_a_downgrade_records_as_django_does(
    shop: AppDatabase,
    django: DjangoProject,  # noqa: F811
    history: object,
    goal: str,
) -> None:
    await history(shop, django)  # type: ignore[operator]
    await shop.run("INSERT INTO store_product (name, color, size) VALUES ('hat', 'red', 'L')")
    twin = DatabaseCopy(shop)
    await twin.split()
    await django.migrate(twin.copy, "store", SQUASH if goal == "0002_color" else goal)
    await goes_back(shop.rollback("0003_size", goal, tool=django.tool("store")))
    assert await shop.rows(NAMES) == await twin.copy.rows(NAMES)
    ignored = "rollback_"
    differences = [d for d in await twin.differences() if "django_migrations" not in d and ignored not in d]
    assert differences == []
    await django.migrate(shop)  # adds everything again
    assert "size" in await columns(shop, "store_product")


@pytest.mark.parametrize("history", HISTORIES)
async def test_reverting_restores_the_same_records(
    shop: AppDatabase,
    django: DjangoProject,  # noqa: F811
    history: object,
) -> None:
    await history(shop, django)  # type: ignore[operator]
    before = await shop.rows(RECORDS)
    smoke = [{"sql": "SELECT false", "database": "shop"}]
    rollback = shop.rollback("0003_size", "zero", tool=django.tool("store"), smoke=smoke)
    ended = await rollback.run(through=lambda plan: in_a_hurry(approved(plan)))
    assert ended.outcome == "reverted", ended.reason
    assert await shop.rows(RECORDS) == before


async def test_from_the_squash_itself(shop: AppDatabase, django: DjangoProject) -> None:  # noqa: F811
    squashed(shop, django)
    await django.migrate(shop)
    await goes_back(shop.rollback(SQUASH, "zero", tool=django.tool("store")))
    assert await shop.rows(NAMES) == []
    await django.migrate(shop)
    assert await columns(shop, "store_product") == ["id", "name", "color"]


async def test_into_the_middle_of_a_squash_is_refused(shop: AppDatabase, django: DjangoProject) -> None:  # noqa: F811
    """Django itself cannot do that either."""
    await before_the_squash(shop, django)
    with pytest.raises(StepFailed):
        await shop.rollback("0003_size", "0001_initial", tool=django.tool("store")).plan()


async def test_a_renamed_model_takes_its_content_type_back(
    shop: AppDatabase,
    django: DjangoProject,  # noqa: F811
) -> None:
    """Django renames the content type in a signal, so the SQL of the migration lacks it."""
    settings = django.directory / "settings.py"
    settings.write_text(settings.read_text().replace('["store"', '["django.contrib.contenttypes", "store"'))
    (django.directory / "store" / "models.py").touch()  # otherwise Django creates no content types
    await django.migrate(shop)
    rename = "migrations.RenameModel('Product', 'Item')"
    django.migration("store", "0003_item", ("store", "0002_color"), operations=rename)
    await django.migrate(shop)
    models = "SELECT id, model FROM django_content_type WHERE app_label = 'store'"
    ((number, _),) = await shop.rows(models)
    twin = DatabaseCopy(shop)
    await twin.split()
    await django.migrate(twin.copy, "store", "0002_color")
    ended = await goes_back(shop.rollback("0003_item", "0002_color", tool=django.tool("store")))
    assert any("Django changes content types as well" in note for note in ended.plan.notes)
    assert await twin.differences() == []
    assert await shop.rows(models) == [(number, "product")]


@pytest.mark.parametrize(
    ("names", "newest"),
    [
        ([], "zero"),
        (["0001_initial", "0002_a"], "0002_a"),
        (["0009_a", "0010_b"], "0010_b"),
        (["9_a", "10_b"], "10_b"),
        (["0001_initial", "0002_color", SQUASH], SQUASH),
        (["0001_initial", "0002_color", "0003_size", SQUASH], "0003_size"),
        (["zebra", "apple"], "apple"),
        (["0001_initial", "apple"], "apple"),
    ],
)
def test_the_newest_migration(names: list[str], newest: str) -> None:
    assert _newest(names) == newest


def test_a_squash_is_the_same_revision_as_its_last_migration() -> None:
    alone, both = Django(apps=("store",)), Django(apps=("store", "users"))
    assert alone.same(SQUASH, "0002_color")
    assert not alone.same(SQUASH, "0001_initial")
    assert both.same(f"store.{SQUASH},users.zero", "users.zero,store.0002_color")
