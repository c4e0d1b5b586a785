"""A real browser on a foreign page can neither stop, approve, reload nor read; the responder's own page can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from responder.journal import decisions
from tests.browser import browser
from tests.parts import need
from tests.responder.web.access.test_access import bearer
from tests.responder.web.conftest import ResponderServer
from tests.responder.web.links.test_approval import held, link_of, state

EVIL = "evil.example"

_FETCH = """const [url, options, done] = arguments;
fetch(url, options).then((answer) => done([answer.status, answer.type]), (e) => done([0, String(e)]));"""
_FORM = """const [url, type, name, value, sandbox] = arguments;
const frame = document.createElement('iframe');
if (sandbox) { frame.sandbox = 'allow-forms allow-scripts'; }
const form = `<form method=post action="${url}" enctype="${type}"><input name='${name}' value='${value}'></form>`;
frame.srcdoc = `${form}<script>document.forms[0].submit()</script>`;
document.body.append(frame);"""
_BEACON = "const [url, body] = arguments; return navigator.sendBeacon(url, new Blob([body], {type: 'text/plain'}));"


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[Any]:
    need("chromium", "chromedriver")
    opened = browser(tmp_path, f"--host-resolver-rules=MAP {EVIL} 127.0.0.1")
    yield await asyncio.to_thread(opened.__enter__)
    await asyncio.to_thread(opened.__exit__, None, None, None)


@pytest.fixture
async def page() -> AsyncIterator[str]:
    """A foreign page with a link."""

    async def show(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>evil</title><p>hello", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", show)
    async with TestServer(app) as server:
        yield f"http://{EVIL}:{server.port}/"


def base(responder: ResponderServer, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{responder.client.port}"


async def refused(responder: ResponderServer, cause: str) -> float:
    line = f'responder_http_requests_refused_total{{cause="{cause}"}} '
    async with responder.client.get(
        "/metrics", headers=bearer("read") if responder.settings.tokens else {}
    ) as response:
        lines = (await response.text()).splitlines()
    return next(float(sample.removeprefix(line)) for sample in lines if sample.startswith(line))


async def until_refused(responder: ResponderServer, cause: str, n: float) -> None:
    """Waits until the request was denied, so that a slow browser hides nothing below."""
    async with asyncio.timeout(30):
        while await refused(responder, cause) < n:
            await asyncio.sleep(0.02)


async def run(driver: Any, script: str, *arguments: Any) -> Any:
    return await asyncio.to_thread(driver.execute_script, script, *arguments)


async def fetch(driver: Any, url: str, **options: Any) -> Any:
    return await asyncio.to_thread(driver.execute_async_script, _FETCH, url, options)


async def test_a_foreign_page_changes_and_reads_nothing(responder: ResponderServer, driver: Any, page: str) -> None:
    """Without tokens, when the address alone would be enough."""
    stop, status = f"{base(responder)}/api/v1/executions/all/stop", f"{base(responder)}/api/v1/status"
    body = '{"reason": "evil"}'
    await asyncio.to_thread(driver.get, page)
    text = {"Content-Type": "text/plain"}
    assert (await fetch(driver, stop, method="POST", mode="no-cors", body=body, headers=text))[1] == "opaque"
    await until_refused(responder, "origin", 1)
    assert (await fetch(driver, stop, method="POST", mode="no-cors"))[1] == "opaque"  # no body, no type
    await until_refused(responder, "origin", 2)
    assert await run(driver, _BEACON, stop, body)
    await until_refused(responder, "origin", 3)
    for n, (encoding, sandbox) in enumerate((e, s) for e in ("text/plain", "") for s in (False, True)):
        await run(driver, _FORM, stop, encoding, '{"reason": "', 'x"}', sandbox)
        await until_refused(responder, "origin", 4 + n)
    # JSON: the browser sends a preflight request, is denied, and sends nothing.
    assert (await fetch(driver, stop, method="POST", body=body, headers={"Content-Type": "application/json"}))[0] == 0
    assert (await fetch(driver, status))[0] == 0, "the answer is not shown to the page"
    assert await responder.journal.read(decisions.kill_switch) is None


async def test_dns_rebinding_to_the_responder_has_no_effect(responder: ResponderServer, driver: Any) -> None:
    """The browser then sees the page and the responder as one origin; only Host differs."""
    await asyncio.to_thread(driver.get, f"{base(responder, EVIL)}/api/v1/status")
    assert "web.allowed_hosts" in await run(driver, "return document.body.textContent")
    assert await refused(responder, "host") >= 1
    headers = {"Content-Type": "application/json"}
    stop = f"{base(responder, EVIL)}/api/v1/executions/all/stop"
    assert await fetch(driver, stop, method="POST", body='{"reason": "evil"}', headers=headers) == [403, "basic"]
    for path in ("status", "executions", "decisions", "deployments", "report"):
        assert await fetch(driver, f"{base(responder, EVIL)}/api/v1/{path}") == [403, "basic"]
    assert await responder.journal.read(decisions.kill_switch) is None


async def test_a_link_on_a_foreign_page_opens_and_its_button_approves(
    guarded_responder: ResponderServer, driver: Any, page: str
) -> None:
    """As from a chat in the browser."""
    execution_id = await held(guarded_responder)
    guarded_responder.still_fires()
    await asyncio.to_thread(driver.get, page)
    await run(
        driver,
        "location.href = arguments[0]",
        f"{base(guarded_responder)}{await link_of(guarded_responder, execution_id)}",
    )
    await asyncio.to_thread(_press, driver)
    assert await state(guarded_responder, execution_id) == ("running", "approved by alice (by link)")


def _press(driver: Any) -> None:
    driver.implicitly_wait(30)
    driver.find_element("name", "name").send_keys("alice")
    driver.find_element("tag name", "button").click()
    driver.find_element("xpath", "//h1[text()='Approved']")


async def test_a_foreign_page_cannot_press_the_button(
    guarded_responder: ResponderServer, driver: Any, page: str
) -> None:
    execution_id = await held(guarded_responder)
    link = f"{base(guarded_responder)}{await link_of(guarded_responder, execution_id)}"
    await asyncio.to_thread(driver.get, page)
    await run(driver, _FORM, link, "application/x-www-form-urlencoded", "name", "evil", False)
    await until_refused(guarded_responder, "origin", 1)
    assert (await state(guarded_responder, execution_id))[0] == "awaiting_approval"
