"""Stand-ins on sockets, moto's S3, and a bucket with three releases; the second one is live."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from responder.backends.sites.cdn_client import Cloudflare, Fastly
from responder.transport.aws import Aws
from tests.cdns import Amazon, FakeCloudflare, FakeFastly
from tests.cdns.connected import aws_settings, cloudflare_settings, fastly_settings
from tests.cdns.site import headers, stock, stocked
from tests.cdns.wire import serving
from tests.parts import free_port


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of a moto server."""
    port = free_port()
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if time.monotonic() > end or server.poll() is not None:
                raise RuntimeError("moto's server did not start")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
async def moto_aws(moto: str) -> AsyncIterator[Aws]:
    aws = Aws(aws_settings(moto))
    yield aws
    await aws.close()


@pytest.fixture
def amazon() -> Amazon:
    amazon = Amazon()
    stock(amazon)
    return amazon


@pytest.fixture
async def amazon_url(amazon: Amazon, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """For KeyValueStore boto3 prefixes the host name with the account, which needs a name server."""
    known = socket.getaddrinfo

    def look_up(host: Any, *more: Any, **other: Any) -> Any:
        return known("127.0.0.1" if str(host).endswith(".localhost") else host, *more, **other)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with serving(amazon.answer) as url:
        yield url.replace("127.0.0.1", "localhost")


@pytest.fixture
async def aws(amazon_url: str) -> AsyncIterator[Aws]:
    aws = Aws(aws_settings(amazon_url))
    yield aws
    await aws.close()


@pytest.fixture
async def cloudflare() -> AsyncIterator[tuple[FakeCloudflare, Cloudflare]]:
    fake = FakeCloudflare()
    async with serving(fake.answer) as url:
        client = Cloudflare(cloudflare_settings(url))
        yield fake, client
        await client.close()


@pytest.fixture
async def fastly() -> AsyncIterator[tuple[FakeFastly, Fastly]]:
    fake = FakeFastly()
    async with serving(fake.answer) as url:
        client = Fastly(fastly_settings(url))
        yield fake, client
        await client.close()


async def fill(aws: Aws, bucket: str) -> None:
    """Like `stock`, through the S3 API."""
    for key, (path, body) in stocked().items():
        await aws.write("s3", "put_object", Bucket=bucket, Key=key, Body=body, **headers(path))
