"""Containers of a Compose service on a real Docker Engine are replaced, restored, and never lost."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from responder.backends.docker.client import Docker, DockerSettings
from responder.backends.docker.compose_override import ComposeOverride, override_beside
from responder.backends.docker.service_image import ServiceImage
from responder.backends.host.client import Local
from responder.errors import StepFailed, Unavailable
from responder.rollback.execution import Execution
from responder.rollback.plan import Change
from tests.contents.engine import FILES, MAY_DIFFER, VERSION, contents
from tests.contents.files import tree
from tests.engine import Engine
from tests.parts import free_port
from tests.responder.backends.resource_law import keeps_the_laws
from tests.responder.harness import Rollback

_SHOP = "/containers/shop-backend-1"
WITH_FILES = {**FILES, f"{_SHOP}/Config/Image": "of the restored container: the image with these files"}
WITHOUT = {path: reason for path, reason in FILES.items() if path != "/images"}
IMAGE = ServiceImage(project="shop", service="backend", number=1)


def immediate(**more: Any) -> dict[str, Any]:
    return {"strategy": "immediate", "docker": {"project": "shop", "service": "backend", **more}}


async def value(docker: Docker, tag: str) -> Any:
    found = await docker.image(f"shop:{tag}")
    assert found
    return {"image": found["Id"], "name": f"shop:{tag}"}


async def ended(docker: Docker, port: int, rollback: dict[str, Any] | None = None, **more: Any) -> Execution:
    healthy = [{"http": f"http://127.0.0.1:{port}/", "fields": {"version": "1"}}]
    return await Rollback(rollback or immediate(), {Docker: docker}, health_checks=healthy, **more).run()


@pytest.mark.parametrize("wrote", [False, True])
async def test_the_laws(wrote: bool, engine: Engine, docker: Docker) -> None:
    engine.call("POST", "/volumes/create", {"Name": "carts"})
    engine.compose("backend", "shop:2", port=free_port(), env=("MODE=live",), volumes={"carts": "/carts"})
    engine.compose("backend", "shop:2", number=2, port=free_port())
    engine.compose("cart", "shop:2", port=free_port())
    if wrote:
        engine.put("shop-backend-1", "/cart", "a file of the process")

    def state() -> dict[str, Any]:
        with contextlib.suppress(AssertionError):
            return {**contents(engine), "cart": engine.get("shop-backend-1", "/cart")}
        return contents(engine)

    may_differ = {f"{_SHOP}/{part}": reason for part, reason in MAY_DIFFER.items()}
    may_differ |= WITH_FILES if wrote else WITHOUT
    version = [*(f"{_SHOP}/Config/{part}" for part in VERSION), "/cart"]
    more: dict[str, Any] = {"state": state, "version": version, "may_differ": may_differ}
    first, second, third = [await value(docker, tag) for tag in "123"]
    await keeps_the_laws(IMAGE, docker, expected=second, to=first, stranger=third, **more)


async def test_a_rollback_keeps_the_old_container_and_everything_but_the_image(engine: Engine, docker: Docker) -> None:
    port = free_port()
    engine.call("POST", "/volumes/create", {"Name": "carts"})
    engine.compose("backend", "shop:2", port=port, env=("MODE=live",), volumes={"carts": "/carts"})
    before = engine.inspect("shop-backend-1")
    assert (await ended(docker, port)).outcome == "succeeded"
    after = engine.inspect("shop-backend-1")
    assert after["Image"] == (await value(docker, "1"))["image"]
    env = set(after["Config"]["Env"])
    assert {"MODE=live", "VERSION=1", "CARTS=old"} <= env  # ours is kept, the bad image's is not
    assert "CARTS=new" not in env
    labels = after["Config"]["Labels"]
    assert labels["shop.version"] == "1"
    assert "shop.only-2" not in labels
    assert labels["com.docker.compose.config-hash"] == "abc"
    assert labels["com.docker.compose.image"] == after["Image"]
    assert labels["io.rollback-responder.replaces"] == before["Id"]
    assert after["HostConfig"]["PortBindings"] == before["HostConfig"]["PortBindings"]
    assert after["HostConfig"]["RestartPolicy"] == before["HostConfig"]["RestartPolicy"]
    mounts = [{m["Destination"]: m["Name"] for m in container["Mounts"]} for container in (before, after)]
    assert mounts[0] == mounts[1]  # also the anonymous volume
    for network, alias in (("shop_default", "backend"), ("shop_back", "backend-back")):
        assert alias in after["NetworkSettings"]["Networks"][network]["Aliases"]
        assert before["Id"][:12] not in after["NetworkSettings"]["Networks"][network]["Aliases"]
    kept = engine.inspect(f"shop-backend-1_kept_{before['Id'][:12]}")
    assert kept["Config"]["Labels"]["io.rollback-responder.original"] == before["Id"]
    assert kept["State"]["Status"] == "created"
    assert kept["HostConfig"]["RestartPolicy"]["Name"] == "no"  # otherwise an engine restart would start it
    assert list(engine.containers()) == ["shop-backend-1"]


async def test_a_container_that_does_not_start_is_reverted(engine: Engine, docker: Docker) -> None:
    port = free_port()
    engine.compose("backend", "shop:2", port=port)
    before = engine.inspect("shop-backend-1")
    execution = await ended(docker, port, to_version="crashes")
    assert execution.outcome == "reverted"
    assert "exited with 3: no such table: carts" in execution.reason
    after = engine.inspect("shop-backend-1")
    assert after["Image"] == before["Image"]
    assert after["State"]["Running"]
    assert after["HostConfig"]["RestartPolicy"]["Name"] == "always"


async def test_leftovers_of_an_earlier_attempt_are_removed(engine: Engine, docker: Docker) -> None:
    """An attempt created a container of another version, and was stopped or killed before the switch."""
    port = free_port()
    engine.compose("backend", "shop:2", port=port)
    bad = engine.inspect("shop-backend-1")
    config = {**bad["Config"], "Image": "shop:3", "HostConfig": bad["HostConfig"]}
    config["Labels"] = {**bad["Config"]["Labels"], "io.rollback-responder.replaces": bad["Id"]}
    engine.call("POST", "/containers/create", config, name=f"shop-backend-1_next_{bad['Id'][:12]}")
    execution = await ended(docker, port)
    assert execution.outcome == "succeeded", execution.reason
    assert [
        container
        for container in engine.call("GET", "/containers/json", all="true")
        if "_next_" in str(container["Names"])
    ] == []


async def test_an_unhealthy_container_is_reverted(engine: Engine, docker: Docker) -> None:
    port = free_port()
    engine.compose("backend", "shop:2", port=port)
    execution = await ended(docker, port, to_version="sick")
    assert execution.outcome == "reverted"
    assert "is unhealthy" in execution.reason
    assert engine.inspect("shop-backend-1")["Image"] == (await value(docker, "2"))["image"]


async def test_a_missing_image_fails_before_any_change(engine: Engine, docker: Docker) -> None:
    port = free_port()
    engine.compose("backend", "shop:2", port=port)
    before = engine.inspect("shop-backend-1")
    execution = await ended(docker, port, to_version="0")
    assert execution.outcome == "failed"
    assert "is not on this host and cannot be pulled; looked for shop:0" in execution.reason
    assert engine.inspect("shop-backend-1")["Id"] == before["Id"]


async def test_a_moved_tag_is_not_the_good_version(engine: Engine, docker: Docker) -> None:
    engine.compose("backend", "shop:2", port=free_port())
    good = await value(docker, "1")
    found = await IMAGE.value_of(docker, "1", good["image"])
    assert isinstance(found, dict)
    assert found["image"] == good["image"]
    with pytest.raises(StepFailed, match="is not on this host"):
        await IMAGE.value_of(docker, "1", f"sha256:{'0' * 64}")


async def test_a_mismatch_with_the_reported_version_fails(engine: Engine, docker: Docker) -> None:
    engine.compose("backend", "shop:3", port=free_port())
    execution = await ended(docker, 1)
    assert execution.outcome == "failed"
    assert "2 was reported as running" in execution.reason


async def test_a_service_without_containers_fails(engine: Engine, docker: Docker) -> None:
    execution = await ended(docker, 1)
    assert "shop/backend has no container" in execution.reason


async def test_compose_up_keeps_the_good_version(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "compose.yaml"
    file.write_text("services: {backend: {image: shop:2}}\n")
    engine.compose("backend", "shop:2", port=port, files=str(file))
    execution = await ended(docker, port)
    assert execution.outcome == "succeeded"
    override = tmp_path / "compose.override.yaml"
    assert yaml.safe_load(override.read_text()) == {"services": {"backend": {"image": "shop:1"}}}
    assert execution.plan
    pinned = f"{override} keeps backend at shop:1: remove it before you deploy another version"
    assert execution.plan.notes == (f"{pinned}; `docker compose -f` does not read it",)


async def test_a_foreign_override_file_is_unchanged_and_reported(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    port, file = free_port(), tmp_path / "compose.yaml"
    theirs = tmp_path / "compose.override.yaml"
    theirs.write_text("services: {backend: {ports: ['80:80']}}\n")
    engine.compose("backend", "shop:2", port=port, files=str(file))
    execution = await ended(docker, port)
    assert execution.outcome == "succeeded"
    assert execution.plan
    assert "the next `docker compose up` of shop restores the bad version" in execution.plan.notes[0]
    assert theirs.read_text() == "services: {backend: {ports: ['80:80']}}\n"


async def test_the_laws_of_the_override(tmp_path: Path) -> None:
    resource = ComposeOverride(file=tmp_path / "compose.override.yaml", service="backend")
    (tmp_path / "compose.yaml").write_text("services: {backend: {image: shop:2}}\n")
    more: dict[str, Any] = {"state": lambda: tree(tmp_path), "version": ["/compose.override.yaml"]}
    await keeps_the_laws(resource, Local(), expected=None, to="shop:1", stranger="shop:3", **more)
    assert not resource.file.exists()
    await ComposeOverride(file=resource.file, service="other").write(Local(), "other:7", expected=None)
    await resource.write(Local(), "shop:1", expected=None)
    await resource.write(Local(), None, expected="shop:1")
    assert yaml.safe_load(resource.file.read_text()) == {"services": {"other": {"image": "other:7"}}}
    resource.file.write_text("nonsense")
    with pytest.raises(StepFailed, match="is not a Compose file of the responder"):
        await resource.read(Local())


@pytest.mark.parametrize(
    ("files", "beside"),
    [
        (["/srv/compose.yaml"], "/srv/compose.override.yaml"),
        (["/srv/docker-compose.yml"], "/srv/docker-compose.override.yml"),
        (["/srv/docker-compose.prod.yml"], None),
        (["/srv/compose.yaml", "/srv/more.yaml"], None),
        ([], None),
    ],
)
def test_the_default_override_file_is_found(files: list[str], beside: str | None) -> None:
    assert override_beside(files) == (Path(beside) if beside else None)


async def test_a_container_has_its_full_stop_timeout(engine: Engine, docker: Docker) -> None:
    port = free_port()
    engine.compose("backend", "shop:2", port=port, stop_timeout=150)
    healthy = [{"http": f"http://127.0.0.1:{port}/", "fields": {"version": "1"}}]
    rollback = Rollback(immediate(), {Docker: docker}, health_checks=healthy)
    (change,) = [step for step in (await rollback.plan()).steps if isinstance(step, Change)]
    assert change.resource.timeout > 150
    assert (await rollback.run()).outcome == "succeeded"
    assert engine.inspect("shop-backend-1")["Config"]["StopTimeout"] == 150


async def test_swarm_services_are_refused(engine: Engine, docker: Docker) -> None:
    port = free_port()
    engine.compose("backend", "shop:2", port=port, labels={"com.docker.swarm.service.id": "x"})
    halted = await ended(docker, port)
    assert (halted.outcome, "belongs to Swarm" in halted.reason) == ("failed", True)
    assert engine.inspect("shop-backend-1")["Config"]["Image"] == "shop:2"


async def test_a_missing_engine_is_reported() -> None:
    docker = await Docker.connect(DockerSettings(host="unix:///nowhere/docker.sock"))
    with pytest.raises(Unavailable, match="Docker Engine"):
        await docker.image("shop:1")
    await docker.close()


async def test_a_color_that_lost_a_container_gets_no_traffic(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    for color, tag, number in (
        ("blue", "2", 1),
        ("blue", "2", 2),
        ("blue", "2", 3),
        ("green", "1", 1),
        ("green", "1", 2),
    ):
        engine.compose(color, f"shop:{tag}", port=free_port(), number=number)
    (tmp_path / "live").write_text("blue")
    strategy = {
        "strategy": "blue_green",
        "pointer": {"file": str(tmp_path / "live")},
        "colors": {c: {"docker": {"project": "shop", "service": c}} for c in ("blue", "green")},
        "ready_for": "1s",
        "ready_within": "3s",
    }
    rollback = Rollback(strategy, {Docker: docker}, health_checks=[{"http": f"http://127.0.0.1:{free_port()}/"}])
    pause, lost = rollback.stop_signal.pause, []

    async def pause_and_lose_one(seconds: float) -> None:
        if (
            rollback.record.events[-1].type == "step_started"
            and "is ready before" in str(rollback.record.events[-1])
            and not lost
        ):
            lost.append(engine.call("POST", "/containers/shop-green-2/stop", t=0))
        await pause(seconds)

    rollback.stop_signal.pause = pause_and_lose_one  # type: ignore[method-assign]
    ended = await rollback.run()
    assert lost
    assert ended.outcome == "reverted", ended.reason
    assert "1 of 2 containers run" in ended.reason
    assert ended.plan
    assert ended.plan.notes == ("blue has 3 containers and green only 2: the strategy adds none",)
    assert (tmp_path / "live").read_text().strip() == "blue"
