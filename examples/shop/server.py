"""The shop: a page, a checkout that needs a database connection, its health, and its numbers for Prometheus.

A release is this file, `orders.py` and a `release.json` beside it. Where SHOP_DATABASE names a PostgreSQL, orders are
written there; else connections are only counted. Releases 1.1 and 1.2 forget to give a database connection back after a
checkout. Nothing is wrong until the pool is empty; from then on no checkout works, while the page still opens and
/health still says that all is well. That is why what customers see decides, and not what a service says of itself.
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
    """What a checkout needs."""

    def use(self) -> bool: ...


class Pool:
    """Stands for the connections where there is no database."""

    def __init__(self, size: int, *, gives_back: bool) -> None:
        self._free = size
        self._gives_back = gives_back
        self._lock = threading.Lock()

    def use(self) -> bool:
        """Whether there was a connection left to work with."""
        with self._lock:
            if self._free == 0:
                return False
            if not self._gives_back:  # the bug of 1.1, and of 1.2 that was to mend it
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
                self._answer(500, "no database connection is left\n")
            case "/health":
                self._send(200, json.dumps({"status": "ok", "version": self.version}), "application/json")
            case "/metrics":
                self._send(200, self._metrics(), "text/plain; version=0.0.4")
            case _:
                self._answer(404, "there is no such page\n")

    def _answer(self, code: int, text: str) -> None:
        """What customers ask for counts; what the monitoring asks for does not."""
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
        """Nothing: 20 lines a second would hide what matters."""


def _database(release: str, *, gives_back: bool) -> Database:
    if not (dsn := os.environ.get("SHOP_DATABASE")):
        return Pool(CONNECTIONS, gives_back=gives_back)
    orders = importlib.import_module("orders")  # beside this file; only here is its driver needed
    database: Database = orders.Orders(
        dsn, os.environ["SHOP_DATABASE_PASSWORD_FILE"], CONNECTIONS, release=release, gives_back=gives_back
    )
    return database


def main() -> None:
    """Serves on the listening socket that the supervisor hands over, until it says TERM or is gone itself."""
    release = json.loads(Path(__file__).with_name("release.json").read_text())
    Shop.version = release["version"]
    Shop.pool = _database(release["version"], gives_back=release["gives_connections_back"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop, bind_and_activate=False)
    server.daemon_threads = False  # so that closing waits for the answers under way
    server.socket.close()
    server.socket = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())

    def follow_the_supervisor() -> None:
        os.read(0, 1)  # nobody ever writes: it returns when the other end is gone
        os._exit(1)

    threading.Thread(target=follow_the_supervisor, daemon=True).start()
    print(f"shop {Shop.version} serves", flush=True)
    server.serve_forever(poll_interval=0.02)
    server.server_close()


if __name__ == "__main__":
    main()
