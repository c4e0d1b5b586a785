"""`/api/v1/executions/{id}/evidence`: the evidence of a rollback, or the logs that a decision preserved."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from aiohttp import web

from responder.errors import StepFailed, Unavailable, Unknown
from responder.evidence.collector import EvidenceCollector
from responder.evidence.manifest import MANIFEST, EvidenceManifest, where
from responder.journal import Database, Row, Transaction, evidence
from responder.web.access.access import error
from responder.web.access.permission import demand_execution, permitted
from responder.web.http.requests import answer
from responder.web.http.routes import EXECUTION, Handlers, Route, get

_TYPES = {"svg": "image/svg+xml", "json": "application/json", "log": "text/plain"}
_SHOWN = (
    "id", "execution", "policy", "service", "environment", "deployment_id", "state", "requested_at", "kept_at",
    "location", "files", "missing", "bytes", "problem",
)  # fmt: skip


class Evidence(Handlers):
    """Shows manifests from the journal, and files from the evidence store."""

    def __init__(self, journal: Database, collector: Callable[[], EvidenceCollector | None]) -> None:
        self._journal, self._collector = journal, collector

    def routes(self) -> Iterable[Route]:
        return (
            get(f"{EXECUTION}/evidence", "read", self.show),
            get(f"{EXECUTION}/evidence/{{name}}", "read", self.file),
        )

    async def show(self, request: web.Request) -> web.Response:
        """`GET …/evidence`: its row, and its manifest if there is one."""
        row = await self._journal.read(_row, request)
        manifest = json.loads(row["manifest"]) if row["manifest"] else None
        return answer({**{name: row[name] for name in _SHOWN}, "manifest": manifest})

    async def file(self, request: web.Request) -> web.Response:
        """`GET …/evidence/{name}`: a file as stored. Without its suffix `.gz`, the browser decompresses it."""
        row, requested = await self._journal.read(_row, request), request.match_info["name"]
        manifest = self._kept(row)
        names = {MANIFEST, *(file.name for file in manifest.files)}
        name = requested if requested in names else f"{requested}.gz"
        if name not in names:
            raise Unknown(f"the evidence of {row['id']} has no file {requested!r}")
        try:
            data = await self._data(row, manifest, name)
        except (StepFailed, Unavailable) as e:
            return error(502, str(e))
        kind = _TYPES.get(requested.rpartition(".")[2], "application/gzip")
        headers = {
            "Content-Type": kind,
            # Logs are untrusted text: the browser must not run anything in them.
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
            "X-Content-Type-Options": "nosniff",
        }
        headers |= {"Content-Encoding": "gzip"} if name != requested else {}
        return web.Response(body=data, headers=headers)

    def _kept(self, row: Row) -> EvidenceManifest:
        match row["state"]:
            case "kept":
                return EvidenceManifest.model_validate_json(row["manifest"])
            case "requested":
                raise Unknown(f"the evidence of {row['id']} is still being collected")
            case "deleted":
                raise Unknown(f"the evidence of {row['id']} was deleted at the end of its retention")
        raise Unknown(f"the evidence of {row['id']} could not be collected: {row['problem']}")

    async def _data(self, row: Row, manifest: EvidenceManifest, name: str) -> bytes:
        collector, folder = self._collector(), where(row["deployment_id"], row["id"])
        store = await collector.store() if collector else None
        location = store.location(folder) if store else "nowhere"
        if store is None or location != row["location"]:
            raise Unknown(f"it was stored in {row['location']}, but the configured store is now {location}")
        data = await store.get(folder, name)
        if data is None:
            raise Unknown(f"{name} is not in {row['location']} on this host; {manifest.kept_on} stored it")
        return data


async def _row(tx: Transaction, request: web.Request) -> Row:
    row = await evidence.find(tx, request.match_info["id"])
    if not permitted(request).includes(row["service"], row["environment"]):
        raise Unknown(f"evidence {row['id']} does not exist")
    if row["execution"]:
        await demand_execution(tx, request, row["execution"])
    return row
