"""`responder snapshots`, from a configuration file alone."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from responder.cli import main
from responder.journal import open_journal
from responder.rollback.events import Closed, StepFailed
from responder.services import rollbacks
from tests import parts
from tests.journals import state  # noqa: F401
from tests.responder.backends.postgres.snapshots.conftest import SourceDatabase, source_database
from tests.responder.examples import NOW, accepted

SHOP = """
CREATE SCHEMA "Old";
CREATE TABLE "Old"."Customers" (id int PRIMARY KEY, "Name" text);
INSERT INTO "Old"."Customers" SELECT n, 'c' || n FROM generate_series(1, 30) n;
CREATE TABLE orders (
    id serial PRIMARY KEY, customer int REFERENCES "Old"."Customers", note text, kind json, other text DEFAULT 'x'
);
INSERT INTO orders (customer, note, kind)
SELECT n, E'tab\t, \\\\. and\nline ' || n, '{"n": 1}' FROM generate_series(1, 20) n;
CREATE TABLE seen (at date, what text, PRIMARY KEY (at, what)) PARTITION BY RANGE (at);
CREATE TABLE seen_a PARTITION OF seen FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE seen_b PARTITION OF seen DEFAULT;
INSERT INTO seen SELECT '2026-01-01'::date + n, 'w' FROM generate_series(0, 300) n;
"""

Run = Callable[..., Awaitable[tuple[int, Any, str]]]


@pytest.fixture
async def shop(cluster: parts.Postgres, tmp_path: Path) -> AsyncIterator[SourceDatabase]:
    async with source_database(cluster, tmp_path, encrypt=True, keep="1s", keep_at_least=1) as source:
        await source.script(SHOP)
        yield source


@pytest.fixture
def run(shop: SourceDatabase, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    file = tmp_path / "responder.yml"
    file.write_text(
        yaml.safe_dump(
            {
                "state": f"sqlite://{tmp_path}/state.db",
                "prometheus": {"url": "http://127.0.0.1:9"},
                "alertmanager": {"urls": ["http://127.0.0.1:9"]},
                "snapshots": shop.settings["stores"],
                "databases": shop.settings["databases"],
            }
        )
    )

    async def go(*words: str) -> tuple[int, Any, str]:
        argv = ["snapshots", *words, "--config", str(file), "--output", "json"]
        code = await asyncio.to_thread(main, argv)
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return go


async def taken(run: Run, *more: str) -> str:
    code, body, err = await run("take", "shop", *more)
    assert code == 0, err
    return str(body["key"])


def name_of(source: SourceDatabase) -> str:
    return source.dsn.rpartition("/")[2]


async def test_a_snapshot_is_taken_listed_verified_and_restored(shop: SourceDatabase, run: Run) -> None:
    key = await taken(run, "--verify", "restore")
    code, body, _ = await run("list")
    assert (code, [(item["key"], item["state"], item["verified"]) for item in body]) == (
        0,
        [(key, "complete", "restore")],
    )
    assert (await run("verify", key, "--restore", "server"))[:2] == (
        0,
        {"key": key, "intact": True, "how": "restored, 5 matching checksums"},
    )

    code, body, _ = await run("restore", key, "--into", "shop")
    assert code == 2
    assert "was taken from" in body["error"], "never over its own database"
    assert (await run("restore", key, "--into", "shop", "--replace"))[0] == 2
    assert (await run("restore", key, "--into", f"server/{name_of(shop)}", "--replace"))[0] == 2, "by any name"

    back = f"{name_of(shop)}_back"
    assert (await run("restore", key, "--into", f"shop/{back}", "--dry-run"))[0] == 0
    assert back not in await shop.databases()
    assert (await run("restore", key, "--into", f"shop/{back}"))[0] == 0
    dsn = shop.dsn.replace(name_of(shop), back)
    for query in ('SELECT * FROM "Old"."Customers" ORDER BY 1', "SELECT * FROM orders ORDER BY 1"):
        assert await shop.sql(query, dsn=dsn) == await shop.sql(query)
    await shop.sql("INSERT INTO orders (customer) VALUES (1)", dsn=dsn)  # its sequence continues

    code, body, _ = await run("restore", key, "--into", f"shop/{back}")
    assert code == 2
    assert "is not empty" in body["error"]
    assert (await run("restore", key, "--into", f"shop/{back}", "--replace"))[0] == 0
    assert len(await shop.sql("SELECT * FROM orders", dsn=dsn)) == 20


async def test_a_snapshot_is_never_restored_over_its_own_database(
    shop: SourceDatabase, run: Run, tmp_path: Path
) -> None:
    key, file = await taken(run), tmp_path / "responder.yml"
    config = yaml.safe_load(file.read_text())
    alias = {"name": "alias", "url": shop.postgres.dsn.replace("127.0.0.1", "localhost")}
    assert alias["url"] != shop.postgres.dsn
    file.write_text(yaml.safe_dump({**config, "databases": [*config["databases"], alias]}))
    code, body, _ = await run("restore", key, "--into", f"alias/{name_of(shop)}", "--replace")
    assert code == 2
    assert "was taken from" in body["error"]
    file.write_text(yaml.safe_dump({**config, "databases": [alias]}))
    code, body, _ = await run("restore", key, "--into", f"alias/{name_of(shop)}", "--replace")
    assert code == 2
    assert "database shop is not configured any more" in body["error"]
    await shop.sql("INSERT INTO orders (note) VALUES ('it lives')")
    assert len(await shop.sql("SELECT * FROM orders")) == 21


async def test_selected_tables_are_restored(shop: SourceDatabase, run: Run) -> None:
    key, back = await taken(run), f"{name_of(shop)}_some"
    tables = ("--tables", "public.orders", "public.seen")
    assert (await run("restore", key, "--into", f"shop/{back}", *tables))[0] == 0
    dsn = shop.dsn.replace(name_of(shop), back)
    counts = (
        'SELECT (SELECT count(*) FROM "Old"."Customers"), (SELECT count(*) FROM orders), (SELECT count(*) FROM seen)'
    )
    assert tuple((await shop.sql(counts, dsn=dsn))[0]) == (0, 20, 301)
    assert (await run("restore", key, "--into", f"shop/{back}2", "--tables", "public.none"))[0] == 2


async def test_columns_are_restored_into_the_live_table(shop: SourceDatabase, run: Run) -> None:
    before = await shop.sql("SELECT id, note FROM orders ORDER BY id")
    key = await taken(run)
    await shop.script(
        "ALTER TABLE orders DROP COLUMN note; ALTER TABLE orders DROP COLUMN other;"  # the downgrade
        "DELETE FROM orders WHERE id = 20; INSERT INTO orders (customer) VALUES (1);"
        "ALTER TABLE orders ADD COLUMN note text; UPDATE orders SET note = 'newer' WHERE id = 1"  # and up again
    )
    argv = ("restore", key, "--into", "shop", "--columns", "public.orders:note")
    code, body, _ = await run(*argv, "--dry-run")
    assert (code, body) == (0, {"rows": 20, "updated": 18, "missing": 1, "different": 1, "dry_run": True})
    assert len(await shop.sql("SELECT FROM orders WHERE note IS NOT NULL")) == 1

    assert (await run(*argv))[1]["updated"] == 18
    assert await shop.sql("SELECT id, note FROM orders WHERE id BETWEEN 2 AND 19 ORDER BY id") == before[1:19]
    assert (await shop.sql("SELECT note FROM orders WHERE id = 1"))[0][0] == "newer"
    assert (await run(*argv))[1]["updated"] == 0, "twice is once"
    assert (await run(*argv, "--overwrite"))[1]["updated"] == 1
    assert (await shop.sql("SELECT note FROM orders WHERE id = 1"))[0][0] == before[0][1]

    for columns, message in (
        ("public.orders:other", "has no column other"),
        ("public.none:note", "unknown table public.none"),
        ("note", "--columns: expected TABLE:COLUMN"),
    ):
        code, body, _ = await run("restore", key, "--into", "shop", "--columns", columns)
        assert code == 2
        assert message in body["error"]


async def test_columns_of_partitions_and_quoted_names_are_restored(shop: SourceDatabase, run: Run) -> None:
    key = await taken(run)
    await shop.script("""UPDATE "Old"."Customers" SET "Name" = NULL; UPDATE orders SET kind = NULL""")
    assert (await run("restore", key, "--into", "shop", "--columns", '"Old"."Customers":Name'))[1]["updated"] == 30
    assert (await run("restore", key, "--into", "shop", "--columns", "public.orders:kind"))[1]["updated"] == 20
    assert (await run("restore", key, "--into", "shop", "--columns", "public.seen:what"))[1]["rows"] == 301
    assert (await shop.sql("""SELECT "Name" FROM "Old"."Customers" WHERE id = 7"""))[0][0] == "c7"


async def test_the_newest_snapshots_are_never_pruned(shop: SourceDatabase, run: Run, tmp_path: Path) -> None:
    await (await open_journal(f"sqlite://{tmp_path}/state.db")).close()
    old = await taken(run)
    await asyncio.sleep(1.1)
    new = await taken(run)
    left = shop.directory / "shop/given-up/1/schema.dump"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    os.utime(left, (0, 0))
    (shop.directory / "shop/unread").mkdir()
    (shop.directory / "shop/unread/manifest.json").write_text("{}")
    await asyncio.sleep(1.1)
    code, body, _ = await run("prune", "--dry-run")
    assert (code, {item["key"] for item in body}) == (0, {old, "shop/given-up"})
    assert left.exists()
    assert (await run("prune"))[0] == 0
    code, body, _ = await run("list")
    assert code == 1, "one cannot be read, and is never removed"
    assert {item["key"] for item in body} == {new, "shop/unread"}
    assert (await run("verify", new))[0] == 0
    assert (await run("verify", old))[0] == 2


async def test_a_snapshot_of_an_open_rollback_is_not_pruned(run: Run, tmp_path: Path, state: str) -> None:  # noqa: F811
    file = tmp_path / "responder.yml"
    config = yaml.safe_load(file.read_text())
    config["snapshots"][0]["keep"] = "1ms"
    file.write_text(yaml.safe_dump({**config, "state": "sqlite:///nowhere/state.db"}))
    old, _ = await taken(run), await asyncio.sleep(1)  # keys have seconds
    new = await taken(run)
    code, body, _ = await run("prune")
    assert code == 2
    assert "nothing was removed: the journal /nowhere/state.db cannot be read" in body["error"]
    file.write_text(yaml.safe_dump({**config, "state": state}))
    journal = await open_journal(state)  # another process has it open
    stuck = await journal.transaction(rollbacks.accept, old.split("/")[1], accepted())
    stuck = await journal.transaction(rollbacks.append, stuck, [StepFailed(at=NOW, reason="x", freeze=True)], None)
    assert (await run("prune"))[1] == []
    assert {item["key"] for item in (await run("list"))[1]} == {old, new}
    done = Closed(at=NOW, outcome="failed", by="tests", reason="over")
    await journal.transaction(rollbacks.append, stuck, [done], None)
    await journal.close()
    assert [item["key"] for item in (await run("prune"))[1]] == [old]


async def test_damage_fails_verification(shop: SourceDatabase, run: Run) -> None:
    key = await taken(run)
    file = max((shop.directory / key).rglob("*.dump"), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1])
    code, body, _ = await run("verify", key)
    assert (code, body["intact"]) == (1, False)


@pytest.mark.parametrize("words", [("verify", "shop/none"), ("verify", "../x"), ("list", "--store", "none")])
async def test_wrong_arguments_are_reported(words: tuple[str, ...], run: Run) -> None:
    code, body, _ = await run(*words)
    assert code == 2
    assert body["error"]
