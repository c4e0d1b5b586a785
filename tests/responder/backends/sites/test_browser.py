"""Visitors with a real browser behind a real caching proxy never see a page of two versions, even in old tabs."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

from responder.transport.aws import Aws
from tests.browser import browser
from tests.cdns import Amazon
from tests.cdns.connected import aws_settings
from tests.cdns.wire import Request, Response, serving
from tests.parts import Process, free_port, need, program
from tests.responder.harness import Rollback

_NGINX = """
daemon off; {user} pid {directory}/nginx.pid; error_log stderr; events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  proxy_cache_path {directory}/cache keys_zone=site:1m;
  server {{
    listen 127.0.0.1:{port};
    proxy_cache site; add_header X-Cache $upstream_cache_status always;
    location = / {{ proxy_pass {origin}/index.html; }}
    location / {{ proxy_pass {origin}/; }}
  }}
}}
"""
_SEEN = """const page = document.documentElement;
return [page.dataset.version, window.script,
  getComputedStyle(page).getPropertyValue("--version").replaceAll("'", "")].filter((told) => told);"""
_WHOLE = "return document.readyState === 'complete' && Boolean(window.lazy)"
_LAZY = "const done = arguments[0]; window.lazy().then(done, (e) => done(String(e)))"


class Visitor:
    """One tab that was open before, and one that loads the page again and again."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url
        self.pages: list[tuple[str, ...]] = []
        self.over, self.began = threading.Event(), threading.Event()
        self.load()
        self.old = driver.current_window_handle
        driver.switch_to.new_window("tab")

    def visit(self) -> None:
        """Loads until the end, and twice after it."""
        left = 2
        while left:
            left -= self.over.is_set()
            self.load()
            self.pages.append(tuple(self.driver.execute_script(_SEEN)))
            self.began.set()

    def load(self) -> None:
        """A busy driver sometimes reports a page too early."""
        self.driver.get(self.url)
        end = time.monotonic() + 10
        while not self.driver.execute_script(_WHOLE) and time.monotonic() < end:
            time.sleep(0.02)

    def lazy(self, tab: str | None = None) -> str:
        """The response to a tab whose page loads another part."""
        if tab is not None:
            self.driver.switch_to.window(tab)
        return str(self.driver.execute_async_script(_LAZY))


async def test_every_page_has_one_version(amazon: Amazon, tmp_path: Path) -> None:
    need("chromium", "chromedriver", "nginx")

    def pause(request: Request) -> float:
        return 0.3 if request.method == "PUT" else 0.0  # long enough for visits in between

    refused: list[str] = []

    def visited(request: Request) -> Response:
        response = amazon.answer(request)
        refused.extend([request.path] if response.status != 200 and "favicon" not in request.path else [])
        return response

    async with serving(visited) as origin, serving(amazon.answer, pause) as api:
        port = free_port()
        url, config = f"http://127.0.0.1:{port}/", tmp_path / "nginx.conf"
        user = "user root;" if os.getuid() == 0 else ""  # otherwise its workers cannot enter the directory
        config.write_text(_NGINX.format(directory=tmp_path, port=port, origin=f"{origin}/shop/live", user=user))
        argv = [str(program("nginx")), "-c", str(config), "-p", str(tmp_path), "-e", str(tmp_path / "error.log")]
        process = await Process.start(argv, log=tmp_path / "nginx.log", ready=url)
        try:
            await _rolled_back_before_visitors(url, api, tmp_path)
            assert refused == []
        finally:
            await process.terminate()


async def _rolled_back_before_visitors(url: str, api: str, directory: Path) -> None:
    edge = {"version": [f"{url}version.json"], "pages": {url: "index.html"}, "hold_for": "0s"}
    copy = {"live": "s3://shop/live", "releases": {"s3": "s3://shop/releases"}}
    rollback = {"strategy": "frontend", "web": {"copy": copy, "edge": edge}, "health_check_urls": [url]}
    opening = browser(directory)
    driver = await asyncio.to_thread(opening.__enter__)
    try:
        visitor = await asyncio.to_thread(Visitor, driver, url)
        visiting = asyncio.create_task(asyncio.to_thread(visitor.visit))
        await asyncio.to_thread(visitor.began.wait, 30)
        aws = Aws(aws_settings(api, connections=1))
        try:
            ended = await Rollback(rollback, {Aws: aws}, health_checks=[{"http": url}]).run()
        finally:
            visitor.over.set()
            await visiting
            await aws.close()
        assert ended.outcome == "succeeded", ended.reason
        assert [page for page in visitor.pages if len(set(page)) > 1] == []
        assert all(len(page) == 3 for page in visitor.pages)
        versions = [page[0] for page in visitor.pages]
        assert versions == sorted(versions, reverse=True)  # first 2, then 1, and never 2 again
        assert set(versions) == {"1", "2"}
        assert await asyncio.to_thread(visitor.lazy) == "1"
        assert await asyncio.to_thread(visitor.lazy, visitor.old) == "2"  # its chunk still exists
    finally:
        await asyncio.to_thread(opening.__exit__, None, None, None)
