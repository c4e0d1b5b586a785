"""The commands of `responder snapshots`."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from typing import Any

from foundation.commands.command import Args, wrong_use
from foundation.commands.failure import NO, OK
from responder.app.loading import load
from responder.backends.postgres.snapshots.client import Snapshots
from responder.backends.postgres.snapshots.columns import restore_columns
from responder.backends.postgres.snapshots.manifest import NAME, SnapshotManifest
from responder.backends.postgres.snapshots.resource import Snapshot
from responder.backends.postgres.snapshots.restore import (
    create_database,
    drop_database,
    existing_content,
    server_identity,
)
from responder.backends.postgres.snapshots.restore import restore as restore_snapshot
from responder.backends.postgres.snapshots.retention import removable
from responder.backends.postgres.snapshots.store import SnapshotStore, StoredSnapshot
from responder.backends.postgres.snapshots.verify import NOT_RESTORED, compare_restored, read_archives
from responder.cli.command import CommandError
from responder.cli.display.terminal import clean, clock, console, table
from responder.cli.ids import begins
from responder.config.text import counted
from responder.errors import JournalUnavailable, ResponderError, StepFailed, Unavailable
from responder.journal import open_executions

_PROOF = {"read": "read, not restored", "restore": "restored and compared"}
"""What the verification of a snapshot proved."""
_NOT_COMPARED = "rows not compared, because it was taken with `--verify read` and has no checksums"


def _print(args: Args, body: Any, text: Any) -> None:
    if args.output == "json":
        print(json.dumps(body, indent=2))
    else:
        console().print(clean(text) if isinstance(text, str) else text, markup=False, soft_wrap=True)


def _stores(args: Args, snapshots: Snapshots) -> list[SnapshotStore]:
    if args.store:
        return [snapshots.store(args.store)]
    if not snapshots.stores:
        raise ResponderError("no snapshot store is configured: add one to `snapshots` in the configuration")
    return list(snapshots.stores.values())


async def _find(args: Args, snapshots: Snapshots) -> tuple[SnapshotStore, SnapshotManifest]:
    if not re.fullmatch(r"[-\w.]+/[-\w.]+", args.key) or ".." in args.key:
        raise CommandError(
            f"invalid key {args.key}", hint="expected DATABASE/EXECUTION such as shop/20261123-231500-4f2a9c1b"
        )
    stores = _stores(args, snapshots)
    key = begins(args.key, {stored.key: "" for store in stores for stored in await store.stored()})
    for store in stores:
        if manifest := await store.find(key):
            return store, manifest
    raise ResponderError(f"snapshot {args.key} does not exist: run `responder snapshots list`")


async def list_stored(args: Args, snapshots: Snapshots) -> int:
    found = [(store, snapshot) for store in _stores(args, snapshots) for snapshot in await store.stored()]
    if args.database:
        found = [(store, snapshot) for store, snapshot in found if snapshot.key.startswith(f"{args.database}/")]
    body = [_summary(store, snapshot) for store, snapshot in found]
    columns = ("key", "store", "made at", "MiB", "tables", "verified", "state")
    rows = [
        (
            entry["key"],
            entry["store"],
            clock(entry.get("made_at")),
            f"{entry.get('size', 0) / 2**20:.1f}",
            "all" if entry.get("tables", ()) is None else str(len(entry.get("tables", ()))),
            _PROOF.get(entry.get("verified", ""), "-"),
            entry["state"],
        )
        for entry in body
    ]
    _print(args, body, table("snapshots", columns, rows))
    return NO if any(snapshot.problem for _, snapshot in found) else OK


def _summary(store: SnapshotStore, snapshot: StoredSnapshot) -> dict[str, Any]:
    manifest = snapshot.manifest
    state = snapshot.problem or ("complete" if manifest else "incomplete")
    summary: dict[str, Any] = {"key": snapshot.key, "store": store.settings.name, "state": state}
    if manifest:
        summary |= {"size": manifest.size, **manifest.model_dump(mode="json", exclude={"key", "checksums"})}
    return summary


async def verify(args: Args, snapshots: Snapshots) -> int:
    store, manifest = await _find(args, snapshots)
    try:
        await read_archives(store, manifest, jobs=args.jobs)
        if args.restore:
            await compare_restored(snapshots.postgres, store, manifest, args.restore, jobs=args.jobs)
    except (StepFailed, Unavailable) as e:
        _print(args, {"key": manifest.key, "intact": False, "reason": str(e)}, f"{manifest.key} is damaged: {e}")
        return NO
    how = f"{NOT_RESTORED}: pass --restore DATABASE to prove that it can be restored"
    if args.restore:
        compared = counted(len(manifest.checksums), "matching checksum") if manifest.checksums else _NOT_COMPARED
        how = f"restored, {compared}"
    _print(args, {"key": manifest.key, "intact": True, "how": how}, f"{manifest.key} is intact: {how}")
    return OK


async def restore(args: Args, snapshots: Snapshots) -> int:
    store, manifest = await _find(args, snapshots)
    postgres = snapshots.postgres
    database, _, other = args.into.partition("/")
    if args.columns:
        return await _columns(args, snapshots, store, manifest)
    name = other or postgres.database_of(database)
    contents = await existing_content(postgres, database, name)
    if contents:
        if await _is_source(snapshots, manifest, database, name):
            raise ResponderError(
                f"{manifest.key} was taken from {name}, which contains {contents}: restore it into a new database "
                f"(--into {database}/{name}_restored), or restore columns (--columns)"
            )
        if not args.replace:
            raise ResponderError(
                f"{name} is not empty, it contains {contents}: use another database, or --replace to drop it"
            )
    summary = {"key": manifest.key, "into": name, "tables": args.tables or "all", "dropped_first": bool(contents)}
    if args.dry_run:
        _print(
            args,
            summary,
            f"{manifest.key} would be restored into {name}{', which is dropped first' if contents else ''}",
        )
        return OK
    if contents:
        await drop_database(postgres, database, name)
    if contents is None or contents:
        await create_database(postgres, database, name, manifest)
    await restore_snapshot(
        postgres, store, manifest, database, name, jobs=args.jobs, owners=not args.no_owner, tables=args.tables
    )
    omitted = (
        " (without foreign keys, because some tables have no rows)"
        if args.tables or manifest.tables is not None
        else ""
    )
    _print(args, summary, f"{manifest.key} was restored into {name}{omitted}")
    return OK


async def _is_source(snapshots: Snapshots, manifest: SnapshotManifest, database: str, name: str) -> bool:
    """Whether the target is the database that the snapshot was taken from, under any configured name or address.

    Raises ResponderError if that cannot be determined.
    """
    postgres = snapshots.postgres
    consequence = f"cannot determine whether {manifest.key} was taken from {name}: restore it into a new database"
    try:
        own = postgres.address_of(manifest.database)
    except StepFailed:
        raise ResponderError(f"database {manifest.database} is not configured any more; {consequence}") from None
    if own == (*postgres.address_of(database)[:2], name):
        return True
    try:
        return await server_identity(postgres, manifest.database) == await server_identity(postgres, database, name)
    except Unavailable as e:
        if own[2] != name:
            return False
        raise ResponderError(f"{e}; {consequence}") from e


async def _columns(args: Args, snapshots: Snapshots, store: SnapshotStore, manifest: SnapshotManifest) -> int:
    table, _, columns = args.columns.rpartition(":")
    database, _, other = args.into.partition("/")
    if not table or not columns or args.tables or args.replace or other:
        raise wrong_use("--columns: expected TABLE:COLUMN,COLUMN with --into DATABASE, without --tables and --replace")
    restored = await restore_columns(
        snapshots.postgres,
        store,
        manifest,
        database,
        table,
        tuple(columns.split(",")),
        overwrite=args.overwrite,
        dry_run=args.dry_run,
    )
    would = "would be" if args.dry_run else "were"
    _print(
        args,
        {**restored._asdict(), "dry_run": args.dry_run},
        f"{restored.updated} of {restored.rows} rows {would} updated from {manifest.key}; "
        f"{restored.missing} are no longer in {table}; {restored.different} keep a different value",
    )
    return OK


async def prune(args: Args, snapshots: Snapshots) -> int:
    body = []
    for store in _stores(args, snapshots):
        settings, stored = store.settings, await store.stored()
        needed, now = await _open(args), datetime.now(UTC)
        limits = settings.keep, settings.keep_at_least
        for candidate in removable(stored, keep=limits[0], keep_at_least=limits[1], now=now, needed=needed):
            if not args.dry_run and candidate.objects:
                await store.objects.delete(candidate.objects)
            elif not args.dry_run:
                await store.objects.delete(
                    (f"{candidate.key}/{NAME}",)
                )  # first: a snapshot without a manifest does not count
                await store.objects.clear(f"{candidate.key}/")
            body.append(
                {"key": candidate.key, "store": settings.name, "reason": candidate.reason, "removed": not args.dry_run}
            )
    would = "would be removed" if args.dry_run else "removed"
    _print(args, body, "\n".join(f"{entry['key']} {would}: {entry['reason']}" for entry in body) or "nothing to remove")
    return OK


async def _open(args: Args) -> frozenset[str]:
    """Open executions, which may need their snapshots. Raises ResponderError if the journal cannot be read."""
    try:
        return await open_executions((await asyncio.to_thread(load, args.config)).journal_url)
    except JournalUnavailable as e:
        raise ResponderError(
            f"nothing was removed: {e}; the journal shows which snapshots open rollbacks need. Run the command where"
            " the journal can be read"
        ) from e


async def take(args: Args, snapshots: Snapshots) -> int:
    store = _stores(args, snapshots)[0]
    resource = Snapshot(
        database=args.database,
        store=store.settings.name,
        tables=tuple(args.tables),
        jobs=args.jobs,
        verify=args.verify,
        scratch=args.scratch,
    ).planned(f"by-hand-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    try:
        await resource.preflight(snapshots, resource.key)
        await resource.write(snapshots, resource.key, expected=None)
    except (StepFailed, Unavailable) as e:
        _print(args, {"key": None, "reason": str(e)}, f"cannot take a snapshot: {e}")
        return NO
    manifest = await store.find(resource.key)
    body = manifest.model_dump(mode="json") if manifest else {}
    _print(
        args,
        body,
        f"{resource.key} is in {store}: {body.get('took_seconds')} s, {_PROOF.get(body.get('verified', ''), '')}",
    )
    return OK
