"""After whole rollbacks and reverts everything but the version equals what was before; planning touches nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from responder.backends.docker.client import Docker
from responder.backends.host.client import Local
from responder.testing.comparison import expect_unchanged
from tests.compose import Compose
from tests.engine import Engine
from tests.responder.backends.docker.outside import may_differ, outside
from tests.responder.harness import Rollback

_SERVICE = {"stop_signal": "SIGKILL", "volumes": ["/data", "pool:/pool"], "ports": ["127.0.0.1::8080"]}
_BYSTANDER = {"image": "plain:3", "stop_signal": "SIGKILL", "volumes": ["/data", "pool:/pool"], "scale": 2}
_RESPONDER_PORTS = {
    "HostConfig/PortBindings/8080~1tcp/0/HostPort": "the port that the engine chose stays, so it is fixed now"
}


def _strategy(name: str, directory: Path) -> dict[str, Any]:
    backend = {"project": "shop", "service": "backend", "min_uptime": "0s"}
    if name == "blue_green":
        (directory / "live").write_text("green\n")
        colors = {color: {"docker": {**backend, "service": color}} for color in ("blue", "green")}
        return {"strategy": name, "pointer": {"file": str(directory / "live")}, "colors": colors, "ready_for": "0s"}
    return {"strategy": name, "docker": backend, **({"batch_size": 2} if name == "rolling" else {})}


@pytest.mark.parametrize(("to_version", "outcome"), [("1", "succeeded"), ("crashes", "reverted")])
@pytest.mark.parametrize("name", ["immediate", "rolling", "blue_green"])
async def test_everything_but_the_version_stays(
    name: str, to_version: str, outcome: str, engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    strategy = _strategy(name, tmp_path)
    if name == "blue_green":
        services = {"blue": {**_SERVICE, "image": "plain:3", "scale": 2}, "green": {**_SERVICE, "image": "plain:2"}}
        replaced = ["shop-blue-?"]
    else:
        services = {"backend": {**_SERVICE, "image": "plain:2", "scale": 3}}
        replaced = ["shop-backend-?"]
    Compose(engine, tmp_path, {**services, "other": _BYSTANDER}, volumes={"pool": {}})("up", "-d")
    if outcome == "reverted":
        engine.call("POST", "/containers/shop-other-1/stop")
        engine.call("POST", f"/containers/{replaced[0].replace('?', '1')}/stop")  # and stays so
    before = outside(engine, tmp_path)
    service = "blue" if name == "blue_green" else "backend"
    checks = [{"containers": {"project": "shop", "service": service}}]
    rollback = Rollback(strategy, {Docker: docker, Local: Local()}, to_version=to_version, health_checks=checks)
    await rollback.plan()
    expect_unchanged(before, outside(engine, tmp_path), "after planning")
    ended = await rollback.run()
    assert ended.outcome == outcome, ended.reason
    known = {
        **may_differ(*replaced),
        **{f"/containers/{each}/{path}": why for each in replaced for path, why in _RESPONDER_PORTS.items()},
    }
    if outcome == "succeeded":
        override = str(tmp_path / "compose.override.yaml").replace("/", "~1")
        known[f"/files/{override}"] = "keeps the good version for the next `docker compose up`; the plan names it"
        known[f"/files/{str(tmp_path / 'live').replace('/', '~1')}"] = "the color with the traffic"
    after = outside(engine, tmp_path)
    expect_unchanged(before, after, f"after a rollback that {outcome}", known)
    version = "1" if outcome == "succeeded" else "3" if name == "blue_green" else "2"
    own = {n: c for n, c in after["containers"].items() if n.startswith(f"shop-{service}-") and "_kept_" not in n}
    assert all(f"VERSION={version}" in container["Config"]["Env"] for container in own.values())
    for own_name, container in own.items():
        assert container["State"]["Running"] == before["containers"][own_name]["State"]["Running"]
    assert all(c["State"]["Status"] == "created" for n, c in after["containers"].items() if "_kept_" in n)
