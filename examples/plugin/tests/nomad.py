"""A stand-in for Nomad's HTTP API: one namespace, one server, and jobs with a version history.

It answers as https://developer.hashicorp.com/nomad/api-docs/jobs documents and as `Job.Revert` of Nomad 1.10 behaves:
a revert registers the old version under a new number; errors of the server are status 500 with a text.
It does not know: allocations, evaluations, canaries, `auto_revert`, regions, blocking queries, garbage collection of
versions, version tags, and reverts between versions with the same specification, which Nomad ignores.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer


class NomadServer:
    """`jobs`: every version of each job, the oldest first. `token`: required if it is set."""

    def __init__(self, token: str = "") -> None:
        self.jobs: dict[str, list[dict[str, Any]]] = {}
        self.deployments: dict[str, dict[str, Any]] = {}
        self.address, self._token, self._index = "", token, 10

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[NomadServer]:
        app = web.Application()
        app.router.add_get("/v1/job/{job}", self._job)
        app.router.add_get("/v1/job/{job}/versions", self._versions)
        app.router.add_get("/v1/job/{job}/deployment", self._deployment)
        app.router.add_post("/v1/job/{job}/revert", self._revert)
        async with TestServer(app) as server:
            self.address = str(server.make_url("")).rstrip("/")
            yield self

    def register(self, job: str, meta: dict[str, str] | None) -> None:
        """`nomad job run`: a new version, and a deployment of it."""
        history = self.jobs.setdefault(job, [])
        self._index += 1
        version = {
            "ID": job, "Name": job, "Namespace": "default", "Type": "service", "Status": "running", "Stop": False,
            "Meta": meta, "Version": len(history), "Stable": False, "JobModifyIndex": self._index,
        }  # fmt: skip
        history.append(version)
        self.deployments[job] = {
            "ID": f"deployment-{self._index}", "JobID": job, "JobVersion": version["Version"], "Status": "running",
            "StatusDescription": "Deployment is running", "JobModifyIndex": self._index,
        }  # fmt: skip

    def finish(self, job: str, *, failed: bool = False) -> None:
        """Ends the deployment in progress. A successful one makes its version stable."""
        deployment = self.deployments[job]
        if deployment["Status"] != "running":
            return
        if failed:
            deployment |= {"Status": "failed", "StatusDescription": "Failed due to progress deadline"}
        else:
            deployment |= {"Status": "successful", "StatusDescription": "Deployment completed successfully"}
            self.jobs[job][deployment["JobVersion"]]["Stable"] = True

    def _find(self, request: web.Request) -> list[dict[str, Any]]:
        if self._token and request.headers.get("X-Nomad-Token") != self._token:
            raise web.HTTPForbidden(text="Permission denied")
        if request.match_info["job"] not in self.jobs:
            raise web.HTTPNotFound(text="job not found")
        return self.jobs[request.match_info["job"]]

    async def _job(self, request: web.Request) -> web.Response:
        return web.json_response(self._find(request)[-1])

    async def _versions(self, request: web.Request) -> web.Response:
        return web.json_response({"Diffs": None, "Versions": self._find(request)[::-1]})

    async def _deployment(self, request: web.Request) -> web.Response:
        self._find(request)
        return web.json_response(self.deployments.get(request.match_info["job"]))

    async def _revert(self, request: web.Request) -> web.Response:
        history, body = self._find(request), await request.json()
        current, target = history[-1]["Version"], body["JobVersion"]
        if target == current:
            raise web.HTTPInternalServerError(text="can't revert to current version")
        if not 0 <= target < len(history):
            raise web.HTTPInternalServerError(
                text=f'job "{body["JobID"]}" in namespace "default" at version {target} not found'
            )
        enforced = body.get("EnforcePriorVersion")
        if enforced is not None and enforced != current:
            text = f"Current job has version {current}; enforcing version {enforced}"
            raise web.HTTPInternalServerError(text=text)
        self.register(body["JobID"], history[target]["Meta"])
        index = self._index
        return web.json_response({"EvalID": "evaluation", "EvalCreateIndex": index, "JobModifyIndex": index})
