"""Special cases of a Nomad job."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from nomad import NomadServer
from rollback_responder_nomad.client import Nomad
from rollback_responder_nomad.job import NomadJob

from responder.errors import StepFailed, Unavailable

SHOP = NomadJob(job="shop")


@pytest.fixture
async def server() -> AsyncIterator[NomadServer]:
    async with NomadServer(token="secret").serve() as server:
        server.register("shop", {"version": "1"})
        server.finish("shop")
        server.register("shop", {"version": "2"})
        yield server


@pytest.fixture
async def client(server: NomadServer) -> AsyncIterator[Nomad]:
    client = Nomad(server.address, "secret")
    yield client
    await client.close()


async def test_a_revert_has_a_new_number_and_the_old_version(server: NomadServer, client: Nomad) -> None:
    await SHOP.write(client, "1", expected="2")
    assert [(job["Version"], job["Meta"]) for job in server.jobs["shop"][-1:]] == [(2, {"version": "1"})]
    assert await SHOP.read(client) == "1"


async def test_it_converges_with_its_deployment(server: NomadServer, client: Nomad) -> None:
    await SHOP.write(client, "1", expected="2")
    assert not await SHOP.converged(client, "1")
    server.finish("shop")
    assert await SHOP.converged(client, "1")


async def test_a_failed_deployment_never_converges(server: NomadServer, client: Nomad) -> None:
    server.finish("shop", failed=True)
    with pytest.raises(StepFailed, match="deployment failed: Failed due to progress deadline"):
        await SHOP.converged(client, "2")


async def test_only_a_stable_version_can_be_restored(server: NomadServer, client: Nomad) -> None:
    server.register("shop", {"version": "3"})
    assert await SHOP.value_of(client, "1", "") == "1"
    for version in ("2", "0"):  # one was never stable, the other never there
        with pytest.raises(StepFailed, match=f"keeps no stable version {version}"):
            await SHOP.value_of(client, version, "")


async def test_a_concurrent_registration_is_not_overwritten(server: NomadServer, client: Nomad) -> None:
    with pytest.raises(Unavailable, match="Current job has version 1; enforcing version 0"):
        await client.revert("shop", to=0, current=0)
    assert len(server.jobs["shop"]) == 2


async def test_access_problems_are_reported(server: NomadServer, client: Nomad) -> None:
    assert await SHOP.check_access(client) == []
    server.register("shop", None)
    (problem,) = await SHOP.check_access(client)
    assert problem.found == "its meta has no version"
    with pytest.raises(StepFailed, match=r"404 .*job not found"):
        await NomadJob(job="cart").check_access(client)
    stranger = Nomad(server.address, "wrong")
    with pytest.raises(StepFailed, match=r"403 .*Permission denied"):
        await SHOP.check_access(stranger)
    await stranger.close()
