"""`check --live` names each call of a rollback that a proxy in front of the engine's socket refuses."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from responder.backends.docker.client import Docker, DockerSettings
from responder.backends.docker.rights import rights_problems
from responder.backends.docker.service_image import ServiceImage
from responder.testing.comparison import expect_unchanged
from tests.engine import Engine
from tests.parts import Process, free_port, need, program
from tests.responder.backends.docker.outside import outside

_ALL = "containers images networks commit"


@contextlib.asynccontextmanager
async def socket_proxy(engine: Engine, directory: Path, sections: str, *, post: bool = True) -> AsyncIterator[Docker]:
    """HAProxy in front of the engine, with rules by section of the API as in common socket proxies."""
    need("haproxy")
    port, config = free_port(), directory / "haproxy.cfg"
    allowed = "".join(f"  http-request allow if {{ path_reg ^(/v[\\d.]+)?/{name} }}\n" for name in sections.split())
    config.write_text(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
        f"frontend f\n  bind 127.0.0.1:{port}\n  default_backend engine\n"
        + ("" if post else "  http-request deny unless METH_GET || METH_HEAD\n")
        + f"  http-request allow if {{ path_reg ^(/v[\\d.]+)?/(_ping|version) }}\n{allowed}  http-request deny\n"
        f"backend engine\n  server engine {engine.path}\n"
    )
    argv = (str(program("haproxy")), "-db", "-f", str(config))
    process = await Process.start(argv, log=directory / "log", ready=f"http://127.0.0.1:{port}/_ping")
    docker = await Docker.connect(DockerSettings(host=f"tcp://127.0.0.1:{port}"))
    try:
        yield docker
    finally:
        await docker.close()
        await process.terminate()


@pytest.mark.parametrize(
    ("sections", "post", "refused"),
    [
        (_ALL, True, ()),
        ("containers images networks", True, ("POST /commit",)),
        ("containers images commit", True, ("POST /networks/*/connect",)),
        ("containers networks commit", True, ("GET /images/*/json", "POST /images/create")),
        (_ALL, False, ("DELETE /containers/*", "POST /containers/*/start", "PUT /containers/*/archive")),
    ],
    ids=["all", "no commit", "no networks", "no images", "read only"],
)
async def test_refused_calls_are_named(
    sections: str, post: bool, refused: tuple[str, ...], engine: Engine, tmp_path: Path
) -> None:
    engine.compose("backend", "plain:2", port=free_port())
    before = outside(engine)
    async with socket_proxy(engine, tmp_path, sections, post=post) as docker:
        found = "; ".join(map(str, await ServiceImage(project="shop", service="backend").check_access(docker)))
    assert bool(found) == bool(refused), found
    assert all(call in found for call in refused), found
    assert "(403)" in found or not refused
    expect_unchanged(before, outside(engine), "after check_access")


async def test_the_engine_itself_refuses_nothing(docker: Docker) -> None:
    assert await rights_problems(docker) == []
