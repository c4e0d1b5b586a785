"""The service: it answers as the release that `current` pointed to at its start.

    shop.py keep --root DIR --port N    keeps it running until SIGTERM
    shop.py restart --root DIR          returns once the release that `current` points to answers

A release is a directory; what is in `health` is the status that it answers with. Every start is a line in `starts`:
that is what the tests count. Standard library only, so that a start is quick.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

PID, STARTS, PORT, SLOWLY = "pid", "starts", "port", "restart-takes"


def answer(port: int) -> None:
    """One release, from its start to its end."""
    release = Path("current").resolve(strict=True)
    version, health = release.name, int((release / "health").read_text())

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            metrics = self.path == "/metrics"
            body = f'shop_healthy{{version="{version}"}} {int(health == 200)}\n' if metrics else f"{version}\n"
            self.send_response(200 if metrics else health)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    def follow() -> None:
        sys.stdin.buffer.read()  # ends when the supervisor has ended, for any reason
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer)
    with Path(STARTS).open("a") as starts:
        starts.write(f"{version}\n")
    new = Path(f"{PID}.new")
    new.write_text(str(os.getpid()))
    new.replace(PID)
    server.serve_forever()


def keep(port: int) -> None:
    """Restarts it whenever it has ended."""
    Path(PORT).write_text(str(port))
    child: list[subprocess.Popen[bytes]] = []

    def leave(*_: object) -> None:
        for process in child:
            process.kill()
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    while True:
        argv = [sys.executable, "-S", "-E", "-s", __file__, "answer", "--root", str(Path.cwd()), "--port", str(port)]
        child[:] = [subprocess.Popen(argv, stdin=subprocess.PIPE)]
        child[0].wait()
        time.sleep(0.01)


def runs(port: int) -> str:
    """The version that answers; empty if none does."""
    with contextlib.suppress(OSError, IndexError), socket.create_connection(("127.0.0.1", port), 2) as asking:
        asking.settimeout(2)
        asking.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        with asking.makefile() as response:
            return response.read().split()[-1]
    return ""


def restart() -> int:
    """Ends the running release, and waits for the next one. Two concurrent calls are harmless."""
    with contextlib.suppress(OSError, ValueError):
        time.sleep(float(Path(SLOWLY).read_text()))
    port, end = int(Path(PORT).read_text()), time.monotonic() + 20
    first = True
    while time.monotonic() < end:
        wanted, running = Path("current").resolve().name, runs(port)
        if first or (running and running != wanted):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(Path(PID).read_text()), signal.SIGTERM)
        elif running == wanted:
            return 0
        first = False
        time.sleep(0.05)
    print("it does not answer as the release that `current` points to", file=sys.stderr)
    return 1


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("keep", "answer", "restart"))
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    os.chdir(args.root)
    if args.command == "restart":
        return restart()
    (keep if args.command == "keep" else answer)(args.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
