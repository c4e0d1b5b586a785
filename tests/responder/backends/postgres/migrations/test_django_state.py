"""Django migrations whose SQL depends on the database: the responder's downgrade against that of Django."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.differential import DatabaseCopy
from tests.responder.backends.postgres.projects import DjangoProject
from tests.responder.backends.postgres.test_rollback import approved, goes_back, in_a_hurry
from tests.responder.backends.postgres.test_tools import django  # noqa: F401


def alter(**options: object) -> str:
    listed = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return f"migrations.AlterField('product', 'name', models.CharField(max_length=50{', ' if listed else ''}{listed}))"


class Chain(NamedTuple):
    """The operations of 0003 and of 0004."""

    third: str
    fourth: str = ""


NOTHING = "lambda apps, editor: None"
CHAINS = {
    "a unique field": Chain(alter(unique=True), alter()),
    "an indexed field": Chain(alter(db_index=True), alter()),
    "a unique field that is renamed": Chain(alter(unique=True), "migrations.RenameField('product', 'name', 'title')"),
    "an indexed field of a renamed model": Chain(alter(db_index=True), "migrations.RenameModel('Product', 'Item')"),
    "unique together": Chain(
        "migrations.AlterUniqueTogether('product', {('name', 'color')})",
        "migrations.AlterUniqueTogether('product', set())",
    ),
    "a new column that Python fills": Chain(
        "migrations.AddField('product', 'size', models.TextField(null=True)),"
        f" migrations.RunPython({NOTHING}, migrations.RunPython.noop)"
    ),
    "a key to another table": Chain(
        "migrations.CreateModel('Maker', [('id', models.AutoField(primary_key=True))]), migrations.AddField('product',"
        " 'maker', models.ForeignKey('store.maker', django.db.models.deletion.CASCADE, null=True))",
        "migrations.AlterField('product', 'maker', models.ForeignKey('store.maker',"
        " django.db.models.deletion.CASCADE, null=True, db_constraint=False))",
    ),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
async def test_a_downgrade_equals_that_of_django(
    shop: AppDatabase,
    django: DjangoProject,  # noqa: F811
    chain: Chain,
) -> None:
    django.migration("store", "0003_third", ("store", "0002_color"), operations=chain.third)
    newest = "0003_third"
    if chain.fourth:
        newest = "0004_fourth"
        django.migration("store", newest, ("store", "0003_third"), operations=chain.fourth)
    await django.migrate(shop)
    table = await shop.value("SELECT tablename FROM pg_tables WHERE tablename IN ('store_product', 'store_item')")
    column = "title" if "title" in chain.fourth else "name"
    await shop.run(f"INSERT INTO {table} ({column}, color) VALUES ('hat', 'red')")
    before, twin = DatabaseCopy(shop), DatabaseCopy(shop)
    await before.split()
    smoke = [{"sql": "SELECT false", "database": "shop"}]
    rollback = shop.rollback(newest, "0002_color", tool=django.tool("store"), smoke=smoke)
    ended = await rollback.run(through=lambda plan: in_a_hurry(approved(plan)))
    assert ended.outcome == "reverted", ended.reason
    assert [line for line in await before.differences() if "django_migrations" not in line] == []
    await twin.split()
    await django.migrate(twin.copy, "store", "0002_color")
    rollback = shop.rollback(newest, "0002_color", tool=django.tool("store"))
    rollback.version = rollback.version.model_copy(update={"execution": "drill-2"})
    await goes_back(rollback)
    assert await twin.differences() == []


async def test_content_types_of_a_model_that_comes_back(shop: AppDatabase, django: DjangoProject) -> None:  # noqa: F811
    """A new database, which never had the model: Django creates its content type in a signal."""
    settings = django.directory / "settings.py"
    settings.write_text(settings.read_text().replace('["store"', '["django.contrib.contenttypes", "store"'))
    (django.directory / "store" / "models.py").touch()
    django.migration("store", "0003_gone", ("store", "0002_color"), operations="migrations.DeleteModel('Product')")
    await django.migrate(shop)
    twin = DatabaseCopy(shop)
    await twin.split()
    await django.migrate(twin.copy, "store", "0002_color")
    await goes_back(shop.rollback("0003_gone", "0002_color", tool=django.tool("store")))
    assert await twin.differences() == []
    assert await shop.rows("SELECT model FROM django_content_type WHERE app_label = 'store'") == [("product",)]
