"""Starts Chromium for tests that need a real browser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver

from tests.parts import program


@contextlib.contextmanager
def browser(directory: Path, *more: str) -> Iterator[Any]:
    """A headless Chromium with its own profile below the directory; `more` are additional flags."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(program("chromium"))
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
        "--no-proxy-server", f"--user-data-dir={directory / 'profile'}", *more,
    ):  # fmt: skip
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(program("chromedriver"))))
    try:
        driver.set_page_load_timeout(30)
        driver.set_script_timeout(30)
        yield driver
    finally:
        driver.quit()
