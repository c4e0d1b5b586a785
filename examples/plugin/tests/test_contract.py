"""The Nomad job keeps the published contract of a resource, and survives crashes in a rollback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nomad import NomadServer
from rollback_responder_nomad.client import Nomad
from rollback_responder_nomad.job import NomadJob

from responder.services.service import Service
from responder.testing import crash
from responder.testing.crash import CrashCase, Drills
from responder.testing.resources import ResourceCase, check_laws


@asynccontextmanager
async def shop() -> AsyncIterator[tuple[NomadServer, Nomad]]:
    """The job shop at version 2; before, 1 was stable."""
    async with NomadServer().serve() as server:
        for version in ("hotfix", "1", "2"):
            server.register("shop", {"version": version})
            server.finish("shop")
        client = Nomad(server.address)
        try:
            yield server, client
        finally:
            await client.close()


async def test_laws() -> None:
    async with shop() as (server, client):
        finish = lambda: server.finish("shop")  # noqa: E731
        state = lambda: {**server.jobs["shop"][-1], "deployment": server.deployments["shop"]}  # noqa: E731
        counted = ("/Version", "*/JobModifyIndex", "/deployment/ID", "/deployment/JobVersion")
        may_differ = dict.fromkeys(counted, "every registration of a job counts them up")
        more = {"state": state, "version": ["/Meta/version"], "may_differ": may_differ, "settle": finish}
        case = ResourceCase(NomadJob(job="shop"), client, "2", "1", "hotfix", **more)
        await check_laws(case)


@asynccontextmanager
async def rollback(directory: Path) -> AsyncIterator[CrashCase]:
    async with shop() as (server, client):

        async def interfere() -> None:
            server.register("shop", {"version": "hotfix"})

        service = Service.model_validate(
            {
                "name": "shop",
                "environment": "test",
                "rollback": {"strategy": "immediate", "resource": {"resource": "nomad_job", "job": "shop"}},
                "health_checks": [{"http": "http://shop/health"}],
            }
        )
        yield CrashCase(
            service=service, from_version="2", to_version="1", clients={Nomad: client}, interfere=interfere,
            state=lambda: server.jobs["shop"][-1]["Meta"]["version"], rolled_back="1",
            wait=lambda seconds: server.finish("shop"),
        )  # fmt: skip


@pytest.mark.parametrize("law", crash.LAWS, ids=lambda law: law.__name__)
async def test_crashes(law: Callable[[Drills], Awaitable[object]], tmp_path: Path) -> None:
    await law(Drills(rollback, tmp_path))
