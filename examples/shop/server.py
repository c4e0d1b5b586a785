"""The shop: a page, a checkout that needs a database connection, a health endpoint, and metrics for Prometheus.

A release consists of this file, `orders.py` and a `release.json` beside it. With SHOP_DATABASE set, orders are written
to that PostgreSQL; otherwise connections are only counted. Releases 1.1 and 1.2 do not release a database connection
after a checkout. Once the pool is empty, every checkout fails, while the page and /health still answer 200. That is why
health checks test what customers see, not what a service reports about itself.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, Protocol

CONNECTIONS = 40


class Database(Protocol):
    """The database of the checkout."""

    def use(self) -> bool: ...


class Pool:
    """Simulates a connection pool without a database."""

    def __init__(self, size: int, *, releases_connections: bool) -> None:
        self._free = size
        self._releases_connections = releases_connections
        self._lock = threading.Lock()

    def use(self) -> bool:
        """Whether a connection was free."""
        with self._lock:
            if self._free == 0:
                return False
            if not self._releases_connections:  # the bug of 1.1, and of 1.2, which was meant to fix it
                self._free -= 1
            return True


class Shop(BaseHTTPRequestHandler):
    """One request."""

    version: ClassVar[str]
    pool: ClassVar[Database]
    answered: ClassVar[Counter[int]] = Counter()
    counting: ClassVar[threading.Lock] = threading.Lock()
    timeout = 5

    def do_GET(self) -> None:
        match self.path:
            case "/":
                self._answer(200, "Welcome to the shop.\n")
            case "/checkout" if self.pool.use():
                self._answer(200, "Thank you for your order.\n")
            case "/checkout":
                self._answer(500, "no database connection available\n")
            case "/health":
                self._send(200, json.dumps({"status": "ok", "version": self.version}), "application/json")
            case "/metrics":
                self._send(200, self._metrics(), "text/plain; version=0.0.4")
            case _:
                self._answer(404, "page not found\n")

    def _answer(self, code: int, text: str) -> None:
        """Counts requests of customers, but not those of the monitoring."""
        with self.counting:
            self.answered[code] += 1
        self._send(code, text, "text/plain")

    def _send(self, code: int, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Release", self.version)
        self.end_headers()
        self.wfile.write(body)

    def _metrics(self) -> str:
        with self.counting:
            rows = sorted(self.answered.items())
        lines = [f'http_requests_total{{code="{code}"}} {n}' for code, n in rows]
        return "\n".join(["# TYPE http_requests_total counter", *lines, ""])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name is given
        """Logs nothing: 20 lines per second would hide important lines."""


def _database(release: str, *, releases_connections: bool) -> Database:
    if not (dsn := os.environ.get("SHOP_DATABASE")):
        return Pool(CONNECTIONS, releases_connections=releases_connections)
    orders = importlib.import_module("orders")  # beside this file; imported here because only it needs the driver
    database: Database = orders.Orders(
        dsn,
        os.environ["SHOP_DATABASE_PASSWORD_FILE"],
        CONNECTIONS,
        release=release,
        releases_connections=releases_connections,
    )
    return database


def main() -> None:
    """Serves on the listening socket of the supervisor until SIGTERM or until the supervisor exits."""
    release = json.loads(Path(__file__).with_name("release.json").read_text())
    Shop.version = release["version"]
    Shop.pool = _database(release["version"], releases_connections=release["releases_connections"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop, bind_and_activate=False)
    server.daemon_threads = False  # so that closing waits for running requests
    server.socket.close()
    server.socket = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())

    def follow_the_supervisor() -> None:
        os.read(0, 1)  # nothing is ever written: it returns when the supervisor exits
        os._exit(1)

    threading.Thread(target=follow_the_supervisor, daemon=True).start()
    print(f"shop {Shop.version} is serving", flush=True)
    server.serve_forever(poll_interval=0.02)
    server.server_close()


if __name__ == "__main__":
    main()
