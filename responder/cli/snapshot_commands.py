"""What the commands of `responder snapshots` do, and how they show it."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from datetime import UTC, datetime
from typing import Any

from responder.app.loading import load
from responder.backends.postgres.snapshots.client import Snapshots
from responder.backends.postgres.snapshots.columns import bring_back
from responder.backends.postgres.snapshots.manifest import NAME, Manifest
from responder.backends.postgres.snapshots.resource import Snapshot
from responder.backends.postgres.snapshots.restore import created, dropped, identity, is_empty
from responder.backends.postgres.snapshots.restore import restore as put_back
from responder.backends.postgres.snapshots.retention import due
from responder.backends.postgres.snapshots.store import Kept, Shelf
from responder.backends.postgres.snapshots.verify import compare_restored, read_back
from responder.cli.display.terminal import clean, clock, console, table
from responder.errors import JournalUnavailable, ResponderError, StepFailed, Unavailable
from responder.journal import open_executions

OK, NO = 0, 1


def _out(args: argparse.Namespace, body: Any, shown: Any) -> None:
    if args.output == "json":
        print(json.dumps(body, indent=2))
    else:
        console().print(clean(shown) if isinstance(shown, str) else shown, markup=False, soft_wrap=True)


def _shelves(args: argparse.Namespace, snapshots: Snapshots) -> list[Shelf]:
    if args.store:
        return [snapshots.shelf(args.store)]
    if not snapshots.shelves:
        raise ResponderError("no place for snapshots is configured: see `snapshots` in the configuration")
    return list(snapshots.shelves.values())


async def _found(args: argparse.Namespace, snapshots: Snapshots) -> tuple[Shelf, Manifest]:
    if not re.fullmatch(r"[-\w.]+/[-\w.]+", args.key) or ".." in args.key:
        raise ResponderError(f"{args.key} is not a key such as shop/20261123-231500-4f2a9c1b")
    for shelf in _shelves(args, snapshots):
        if manifest := await shelf.find(args.key):
            return shelf, manifest
    raise ResponderError(f"there is no snapshot {args.key}: responder snapshots list")


async def list_kept(args: argparse.Namespace, snapshots: Snapshots) -> int:
    found = [(shelf, kept) for shelf in _shelves(args, snapshots) for kept in await shelf.kept()]
    if args.database:
        found = [(shelf, kept) for shelf, kept in found if kept.key.startswith(f"{args.database}/")]
    body = [_summary(shelf, kept) for shelf, kept in found]
    columns = ("key", "store", "made at", "MiB", "tables", "verified", "state")
    rows = [
        (
            entry["key"],
            entry["store"],
            clock(entry.get("made_at")),
            f"{entry.get('size', 0) / 2**20:.1f}",
            "all" if entry.get("tables", ()) is None else str(len(entry.get("tables", ()))),
            entry.get("verified", "-"),
            entry["state"],
        )
        for entry in body
    ]
    _out(args, body, table("snapshots", columns, rows))
    return NO if any(kept.wrong for _, kept in found) else OK


def _summary(shelf: Shelf, kept: Kept) -> dict[str, Any]:
    state = kept.wrong or ("complete" if kept.manifest else "not finished: no snapshot")
    summary: dict[str, Any] = {"key": kept.key, "store": shelf.settings.name, "state": state}
    if kept.manifest:
        summary |= {"size": kept.manifest.size, **kept.manifest.model_dump(mode="json", exclude={"key", "counted"})}
    return summary


async def verify(args: argparse.Namespace, snapshots: Snapshots) -> int:
    shelf, manifest = await _found(args, snapshots)
    try:
        await read_back(shelf, manifest, jobs=args.jobs)
        if args.restore:
            await compare_restored(snapshots.postgres, shelf, manifest, args.restore, jobs=args.jobs)
    except (StepFailed, Unavailable) as e:
        _out(args, {"key": manifest.key, "whole": False, "reason": str(e)}, f"{manifest.key} is not whole: {e}")
        return NO
    how = (
        f"restored and compared: {len(manifest.counted)} counts and hashes are equal"
        if args.restore
        else "read to its last byte"
    )
    _out(args, {"key": manifest.key, "whole": True, "how": how}, f"{manifest.key} is whole: {how}")
    return OK


async def restore(args: argparse.Namespace, snapshots: Snapshots) -> int:
    shelf, manifest = await _found(args, snapshots)
    postgres = snapshots.postgres
    database, _, named = args.into.partition("/")
    if args.columns:
        return await _columns(args, snapshots, shelf, manifest)
    name = named or postgres.database_of(database)
    contents = await is_empty(postgres, database, name)
    if contents:
        if await _is_its_own(snapshots, manifest, database, name):
            raise ResponderError(
                f"{manifest.key} was taken from {name}, and it holds {contents}: restore it into a new database "
                f"(--into {database}/{name}_restored), or some columns (--columns)"
            )
        if not args.replace:
            raise ResponderError(
                f"{name} is not empty, it holds {contents}: name another, or drop it first by --replace"
            )
    summary = {"key": manifest.key, "into": name, "tables": args.tables or "all", "dropped_first": bool(contents)}
    if args.dry_run:
        _out(
            args,
            summary,
            f"{manifest.key} would be restored into {name}{', which is dropped first' if contents else ''}",
        )
        return OK
    if contents:
        await dropped(postgres, database, name)
    if contents is None or contents:
        await created(postgres, database, name, manifest)
    await put_back(
        postgres, shelf, manifest, database, name, jobs=args.jobs, owners=not args.no_owner, tables=args.tables
    )
    less = " (without foreign keys, as not all rows are there)" if args.tables or manifest.tables is not None else ""
    _out(args, summary, f"{manifest.key} is restored into {name}{less}")
    return OK


async def _is_its_own(snapshots: Snapshots, manifest: Manifest, database: str, name: str) -> bool:
    """Whether the target is the very database that the snapshot is of, by whatever name or address it is configured.
    Raises ResponderError where nobody can tell.
    """
    postgres = snapshots.postgres
    consequence = (
        f"so nobody can tell whether {name} is what {manifest.key} was taken from: restore it into a new database"
    )
    try:
        own = postgres.address_of(manifest.database)
    except StepFailed:
        raise ResponderError(f"no database {manifest.database} is configured any more, {consequence}") from None
    if own == (*postgres.address_of(database)[:2], name):
        return True
    try:
        return await identity(postgres, manifest.database) == await identity(postgres, database, name)
    except Unavailable as e:
        if own[2] != name:
            return False
        raise ResponderError(f"{e}, {consequence}") from e


async def _columns(args: argparse.Namespace, snapshots: Snapshots, shelf: Shelf, manifest: Manifest) -> int:
    table, _, columns = args.columns.rpartition(":")
    database, _, named = args.into.partition("/")
    if not table or not columns or args.tables or args.replace or named:
        raise ResponderError(
            "--columns is TABLE:COLUMN,COLUMN with --into DATABASE, and goes with neither --tables nor --replace"
        )
    done = await bring_back(
        snapshots.postgres,
        shelf,
        manifest,
        database,
        table,
        tuple(columns.split(",")),
        overwrite=args.overwrite,
        dry_run=args.dry_run,
    )
    would = "would be" if args.dry_run else "were"
    _out(
        args,
        {**done._asdict(), "dry_run": args.dry_run},
        f"{done.updated} of {done.rows} rows {would} filled from {manifest.key}; "
        f"{done.gone} are not in {table} any more; {done.kept} have another value there, which stays",
    )
    return OK


async def prune(args: argparse.Namespace, snapshots: Snapshots) -> int:
    body = []
    for shelf in _shelves(args, snapshots):
        settings, kept = shelf.settings, await shelf.kept()
        needed, now = await _open(args), datetime.now(UTC)
        for candidate in due(kept, keep=settings.keep, keep_at_least=settings.keep_at_least, now=now, needed=needed):
            if not args.dry_run and candidate.objects:
                await shelf.store.delete(candidate.objects)
            elif not args.dry_run:
                await shelf.store.delete((f"{candidate.key}/{NAME}",))  # first: what is half removed is no snapshot
                await shelf.store.clear(f"{candidate.key}/")
            body.append(
                {"key": candidate.key, "store": settings.name, "why": candidate.why, "removed": not args.dry_run}
            )
    would = "would be removed" if args.dry_run else "removed"
    _out(args, body, "\n".join(f"{entry['key']} {would}: {entry['why']}" for entry in body) or "nothing is due")
    return OK


async def _open(args: argparse.Namespace) -> frozenset[str]:
    """Executions that may need their snapshots. Raises ResponderError where the journal cannot be read."""
    try:
        return await open_executions((await asyncio.to_thread(load, args.config)).journal)
    except JournalUnavailable as e:
        raise ResponderError(
            f"nothing was removed: {e}; without it nobody knows which snapshots open rollbacks still need. Run it where"
            " the journal can be read"
        ) from e


async def take(args: argparse.Namespace, snapshots: Snapshots) -> int:
    shelf = _shelves(args, snapshots)[0]
    resource = Snapshot(
        database=args.database,
        store=shelf.settings.name,
        tables=tuple(args.tables),
        jobs=args.jobs,
        verify=args.verify,
        scratch=args.scratch,
    ).planned(f"by-hand-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    try:
        await resource.preflight(snapshots, resource.key)
        await resource.write(snapshots, resource.key, expected=None)
    except (StepFailed, Unavailable) as e:
        _out(args, {"key": None, "reason": str(e)}, f"no snapshot was taken: {e}")
        return NO
    manifest = await shelf.find(resource.key)
    body = manifest.model_dump(mode="json") if manifest else {}
    _out(args, body, f"{resource.key} is in {shelf}: {body.get('took_seconds')} s, verified by {body.get('verified')}")
    return OK
