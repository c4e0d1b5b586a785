"""A constraint that existing rows violate is refused at planning; counts have units."""

from __future__ import annotations

import pytest

from responder.backends.postgres.snapshots.resource import Snapshot
from responder.errors import StepFailed
from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.test_rollback import USERS, goes_back

BASE = f"{USERS};CREATE TABLE pets (id int PRIMARY KEY, owner int, name text, age int)"
ROWS = "INSERT INTO pets VALUES (1, 1, 'rex', -1), (2, 9, 'rex', 5), (3, NULL, NULL, 5)"
VIOLATED = {
    "ALTER TABLE pets ADD CONSTRAINT old CHECK (age > 0 AND name NOT IN (',', ')'))": '1 row of "pets"',
    "ALTER TABLE pets ADD CHECK (age > 0), ADD note text": '1 row of "pets"',
    'ALTER TABLE pets ALTER COLUMN "owner" SET NOT NULL': '1 row of "pets"',
    "ALTER TABLE ONLY public.pets ADD CONSTRAINT u UNIQUE (name)": "1 repeated value of",
    "CREATE UNIQUE INDEX u ON pets USING btree (name)": "1 repeated value of",
    "ALTER TABLE pets ADD COLUMN size int NOT NULL, ADD note text DEFAULT 'NOT NULL'": '3 rows of "pets"',
    "ALTER TABLE pets ADD a text, ADD b double precision CHECK (b > 0) NOT NULL": '3 rows of "pets"',
    "ALTER TABLE pets DROP id, ADD no uuid PRIMARY KEY": '3 rows of "pets"',
    'ALTER TABLE "pets" ADD FOREIGN KEY (owner) REFERENCES users (id) ON DELETE CASCADE': '1 row of "pets"',
}


@pytest.mark.parametrize("down", VIOLATED)
async def test_a_violated_constraint_is_refused_at_planning(shop: AppDatabase, down: str) -> None:
    shop.file(2, down, "SELECT 1")
    await shop.apply(BASE, "SELECT 1")
    await shop.run(ROWS)
    with pytest.raises(StepFailed) as refused:
        await shop.rollback().plan()
    assert VIOLATED[down] in str(refused.value)
    assert down in str(refused.value)


async def test_a_new_column_that_nothing_fills_cannot_be_required(shop: AppDatabase) -> None:
    down = "ALTER TABLE pets RENAME TO animals; ALTER TABLE animals ADD size int; ALTER TABLE animals ALTER size"
    shop.file(2, f"{down} SET NOT NULL", "SELECT 1")
    await shop.apply(BASE, "SELECT 1")
    await shop.rollback().plan()  # no rows yet
    await shop.run(ROWS)
    with pytest.raises(StepFailed, match='3 rows of "animals"'):
        await shop.rollback().plan()


@pytest.mark.parametrize(
    "down",
    [
        "UPDATE pets SET age = 1; ALTER TABLE pets ADD CHECK (age > 0)",
        "DELETE FROM pets WHERE age < 0; ALTER TABLE pets ADD CHECK (age > 0)",
        "ALTER TABLE pets DROP COLUMN name; ALTER TABLE pets ADD name text; ALTER TABLE pets ADD UNIQUE (name)",
        "CREATE TABLE later (n int); ALTER TABLE later ADD CHECK (n > 0); ALTER TABLE later ALTER n SET NOT NULL",
        "ALTER TABLE pets ADD CHECK (age > -2), ADD UNIQUE (id, name)",
        "ALTER TABLE pets ADD a int NOT NULL DEFAULT 1, ADD b bigserial NOT NULL",
        "ALTER TABLE pets ADD a int NOT NULL GENERATED ALWAYS AS IDENTITY",
        "CREATE DOMAIN size AS int DEFAULT 3; ALTER TABLE pets ADD a size NOT NULL",
        "ALTER TABLE pets ADD a int; UPDATE pets SET a = 1; ALTER TABLE pets ALTER a SET NOT NULL",
        "ALTER TABLE pets ADD a int DEFAULT 1; ALTER TABLE pets ALTER a SET NOT NULL",
        "TRUNCATE pets; ALTER TABLE pets ADD a int NOT NULL",
    ],
)
async def test_a_constraint_that_the_rows_will_fulfil_is_not_refused(shop: AppDatabase, down: str) -> None:
    shop.file(2, down)
    await shop.apply(BASE, "SELECT 1")
    await shop.run(ROWS)
    await goes_back(shop.rollback(approval="never"))


async def test_a_constraint_that_is_not_validated_is_not_refused(shop: AppDatabase) -> None:
    shop.file(2, "ALTER TABLE pets ADD CHECK (age > 0) NOT VALID")
    await shop.apply(BASE, "SELECT 1")
    await shop.run(ROWS)
    await shop.rollback().plan()


async def test_a_new_constraint_is_named_and_counts_have_units(shop: AppDatabase) -> None:
    down = "ALTER TABLE pets ADD CHECK (age > -2); ALTER TABLE pets DROP COLUMN name; DELETE FROM users WHERE id = 1"
    shop.file(2, down)
    await shop.apply(BASE, "SELECT 1")
    await shop.run(ROWS)
    text = "\n".join((await shop.rollback().plan()).notes)
    assert "ADD CHECK (age > -2) [adds a constraint]" in text
    assert 'drops "pets"."name": 2 values now, preserved' in text
    assert 'deletes rows of "users" where id = 1: 1 row now, preserved' in text


def test_a_dry_run_shows_which_part_of_the_key_is_not_known_yet() -> None:
    snapshot = Snapshot(database="shop", store="kept").planned("")
    assert snapshot.describe(snapshot.key) == "shop/EXECUTION"
