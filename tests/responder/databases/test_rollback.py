"""A schema goes back whole or not at all, and whatever that takes out of the tables is kept and can be brought back."""

from __future__ import annotations

import pytest

from tests.responder.databases.conftest import Shop

USERS = "CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL); INSERT INTO users (name) VALUES ('ann'), ('bob')"


async def test_a_column_goes_and_is_kept(shop: Shop) -> None:
    await shop.apply(USERS, "ALTER TABLE users ADD nick text; UPDATE users SET nick = upper(name)")
    shop.file(2, "ALTER TABLE users DROP COLUMN nick", "ALTER TABLE users ADD nick text")
    rollback = shop.rollback()
    plan = await rollback.plan()
    print("\n".join(map(str, plan.steps)), "\n".join(plan.notes), plan.irreversible)
    assert 'drops "users"."nick" (kept in rollback_keep)' in plan.irreversible
    ended = await rollback.run(through=approved)
    assert ended.outcome == "succeeded", ended.reason
    assert await shop.rows("SELECT * FROM users ORDER BY id") == [(1, "ann"), (2, "bob")]
    assert await shop.one("SELECT max(version) FROM schema_migrations") == "1"
    ((what, source, columns, keep, back),) = await shop.kept()
    assert (what, source, columns) == ("columns", '"users"', ["nick"])
    assert await shop.rows(f'SELECT * FROM rollback_keep."{keep}"') == [(1, "ANN"), (2, "BOB")]
    await shop.run(f"ALTER TABLE users ADD nick text; {back}")
    assert await shop.rows("SELECT nick FROM users ORDER BY id") == [("ANN",), ("BOB",)]


def approved(plan):
    return plan.model_copy(
        update={"steps": tuple(s.model_copy(update={"irreversible": ""}) if s.kind == "move" else s for s in plan.steps)}
    )
