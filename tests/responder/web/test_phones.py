"""The pages, in Chromium at the width of a phone: nothing is wider than the screen."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from responder.journal import executions
from tests.browser import browser
from tests.parts import need
from tests.responder.examples import plan
from tests.responder.web.conftest import ResponderServer
from tests.responder.web.links.test_approval import held

WIDTH = 375
DOCUMENTS = ("/runbooks/", "/runbooks/HighErrorRate", "/docs/reference/guards")
DIGEST = "registry.example/shop/backend@sha256:" + "0123456789abcdef" * 4


async def test_no_page_is_wider_than_a_phone(guarded_responder: ResponderServer, tmp_path: Path) -> None:
    need("chromium", "chromedriver")
    execution_id = await held(
        guarded_responder, with_plan=plan().model_copy(update={"notes": (DIGEST,)}), from_version=DIGEST
    )
    execution = await guarded_responder.journal.read(executions.load, execution_id)
    signed = ["/" + link.split("://", 1)[1].split("/", 1)[1] for link in guarded_responder.links.both(execution)]
    paths = (*signed, *DOCUMENTS)
    for n, path in enumerate(paths):
        async with guarded_responder.client.get(path) as response:
            text = await response.text()
            assert (response.status, DIGEST in text) == (200, path in signed)
            (tmp_path / f"{n}.html").write_text(text)

    def widths() -> list[int]:
        with browser(tmp_path) as driver:
            phone = {"width": WIDTH, "height": 800, "deviceScaleFactor": 1, "mobile": True}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
            return [_width(driver, tmp_path / f"{n}.html") for n in range(len(paths))]

    assert await asyncio.to_thread(widths) == [WIDTH] * len(paths)


def _width(driver: Any, file: Path) -> int:
    driver.get(file.as_uri())
    return int(driver.execute_script("return document.documentElement.scrollWidth"))
