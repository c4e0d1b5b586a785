"""A downgrade leaves exactly what the migration leaves, a revert restores everything, and planning changes nothing."""

from __future__ import annotations

from glob import escape
from typing import Any

import pytest

from responder.backends.postgres.schema_revision import SchemaRevision
from responder.rollback.plan import Change
from responder.testing.comparison import differences, expect_unchanged
from tests.contents.database import contents
from tests.responder.backends.postgres.conftest import EMPTY, AppDatabase
from tests.responder.backends.postgres.test_rollback import LOSSES, NOTHING_LOST, Loss, approved, at_two
from tests.responder.backends.resource_law import keeps_the_laws

KEPT = {"*rollback_keep*": "removed data is preserved there"}
SURROUNDINGS = """
CREATE ROLE reader_of_shop; GRANT SELECT ON users TO reader_of_shop; COMMENT ON TABLE users IS 'people';
COMMENT ON COLUMN users.name IS 'as they call themselves'; ALTER SEQUENCE users_id_seq INCREMENT BY 7;
CREATE INDEX by_name_first ON users (name); ALTER TABLE users ALTER name SET STATISTICS 50;
CREATE SCHEMA other; CREATE TABLE other.things (id int PRIMARY KEY); INSERT INTO other.things VALUES (1)
"""
"""What a migration does not mention, on the table that it changes and elsewhere."""

CASES = {
    **LOSSES,
    **{down: Loss("SELECT 1", up, "SELECT 1", down, "", ()) for up, down in NOTHING_LOST},
}
SHOWN = ("a column", "a table", "a type", "values", "rows that others go with", "DROP INDEX by_name")
EVERY = [pytest.param(loss, id=name, marks=[] if name in SHOWN else pytest.mark.soak) for name, loss in CASES.items()]
"""A dump takes a second of CPU, so only some cases are in every suite."""


async def deployed(shop: AppDatabase, loss: Loss) -> dict[str, Any]:
    """Version 2 with its data, on a database that has objects of others."""
    await shop.run(EMPTY)
    await shop.run("DROP ROLE IF EXISTS reader_of_shop")
    await at_two(shop, loss._replace(base=f"{loss.base}; {SURROUNDINGS}"))
    return contents(shop.dsn)


async def downgraded_by_hand(shop: AppDatabase, loss: Loss) -> dict[str, Any]:
    """What the migration leaves if nothing else happens."""
    await deployed(shop, loss)
    await shop.run(f"{loss.down}; DELETE FROM schema_migrations WHERE version = '2'")
    return contents(shop.dsn)


async def planned(shop: AppDatabase) -> SchemaRevision:
    plan = await shop.rollback().plan()
    changes = [step.resource for step in plan.steps if isinstance(step, Change)]
    (resource,) = [resource for resource in changes if isinstance(resource, SchemaRevision)]
    return resource


RETURNING = [param for param in EVERY if "renamed" not in str(param.id)]
"""Without the case in which only the recorded SQL knows both names of a table: its revert fails before any change."""


@pytest.mark.parametrize("loss", RETURNING)
async def test_the_laws(shop: AppDatabase, loss: Loss) -> None:
    expected = await downgraded_by_hand(shop, loss)
    before = await deployed(shop, loss)
    resource = await planned(shop)
    expect_unchanged(before, contents(shop.dsn), "after planning")
    version = [escape(path) for path, _ in differences(before, expected, {})]
    more: dict[str, Any] = {"state": lambda: contents(shop.dsn), "version": version, "may_differ": KEPT}
    await keeps_the_laws(resource, shop.schemas, expected="2", to="1", stranger=None, **more)


@pytest.mark.parametrize("loss", EVERY)
async def test_a_rollback_leaves_what_the_migration_leaves(shop: AppDatabase, loss: Loss) -> None:
    expected = await downgraded_by_hand(shop, loss)
    await deployed(shop, loss)
    ended = await shop.rollback().run(through=approved)
    assert ended.outcome == "succeeded", ended.reason
    expect_unchanged(expected, contents(shop.dsn), "after a rollback", KEPT)
