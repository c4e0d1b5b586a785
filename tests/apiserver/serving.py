"""The stand-in over HTTP, with watches."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.apiserver.answers import Failed
from tests.apiserver.selectors import selected
from tests.apiserver.store import OLDEST, Object, shown

if TYPE_CHECKING:
    from tests.apiserver.cluster import Cluster


@contextlib.asynccontextmanager
async def serve(cluster: Cluster) -> AsyncIterator[str]:
    """Serves it on a free port."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") in ("1", "true"):
            return await _watch(cluster, request)
        text = await request.text()
        before, cluster.manager = cluster.manager, manager_of(request)
        status, payload = cluster.handle(
            request.method, request.path, dict(request.query), json.loads(text) if text else None,
            request.content_type, request.headers.get("Authorization", "").removeprefix("Bearer "),
        )  # fmt: skip
        cluster.manager = before
        return _response(status, payload)

    cluster.history = cluster.history or [
        (version_of(o), "ADDED", shown(o)) for kind in cluster.objects.values() for o in kind.values()
    ]
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _watch(cluster: Cluster, request: web.Request) -> web.StreamResponse:
    """ADDED, MODIFIED and DELETED, in order, for what has changed since `resourceVersion`."""
    query = {k: v for k, v in request.query.items() if k in ("labelSelector", "fieldSelector")}
    since, token = int(request.query.get("resourceVersion") or 0), request.headers.get("Authorization", "")
    loop = asyncio.get_running_loop()
    until = loop.time() + float(request.query.get("timeoutSeconds") or 60)
    status, listing = cluster.handle("GET", request.path, query, token=token.removeprefix("Bearer "))
    if status != 200:
        return _response(status, listing)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    kind, namespace = listing["kind"].removesuffix("List"), request.path.split("/namespaces/")[-1].partition("/")[0]
    head = {"kind": kind, "apiVersion": listing["apiVersion"]}
    assert cluster.history is not None
    known: set[str] = set()  # UIDs
    if since and since < OLDEST:
        expired = Failed(410, f"too old resource version: {since} ({OLDEST})").status()
        await response.write(_event("ERROR", expired))
        await response.write_eof()
        return response
    for item in () if since else sorted(listing["items"], key=version_of):
        known.add(item["metadata"]["uid"])
        await response.write(_event("ADDED", {**head, **item}))
    at = since or int(listing["metadata"]["resourceVersion"])
    for version, how, item in cluster.history:
        if version <= at and item["kind"] == kind and selected(item, query):
            (known.discard if how == "DELETED" else known.add)(item["metadata"]["uid"])
    seen = sum(version <= at for version, _, _ in cluster.history)
    while loop.time() < until and request.transport and not request.transport.is_closing():
        cluster.catch_up()
        for _, how, item in cluster.history[seen:]:
            seen += 1
            if item["kind"] != kind or item["metadata"].get("namespace", namespace) != namespace:
                continue
            fits = how != "DELETED" and selected(item, query)
            uid = item["metadata"]["uid"]
            if fits or uid in known:  # an object that no longer matches is deleted for the watch
                now = ("MODIFIED" if uid in known else "ADDED") if fits else "DELETED"
                await response.write(_event(now, item))
                (known.add if fits else known.discard)(uid)
        await asyncio.sleep(0.005)
    with contextlib.suppress(ConnectionError):  # the watch was closed
        await response.write_eof()
    return response


def manager_of(request: web.Request) -> str:
    """The field manager of a request, by default from its user agent."""
    return request.query.get("fieldManager") or request.headers.get("User-Agent", "unknown").partition("/")[0]


def version_of(found: Object) -> int:
    return int(found["metadata"]["resourceVersion"])


def _response(status: int, answer: Any) -> web.Response:
    if isinstance(answer, str):
        return web.Response(text=answer, status=status)
    return web.json_response(answer, status=status)


def _event(how: str, item: Object) -> bytes:
    return json.dumps({"type": how, "object": item}).encode() + b"\n"
