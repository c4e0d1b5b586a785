"""Keeps the release running that `current` points to, and changes it without refusing a single connection.

    supervisor.py run --root DIR --port N     runs until SIGTERM
    supervisor.py restart --root DIR          returns once the release that `current` points to answers

The supervisor owns the listening socket and hands it to each release: while one is stopped and the next one starts,
customers wait in the queue of that socket instead of being turned away.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

CONTROL = "supervisor.sock"
ANSWERS_WITHIN = 10.0


class Supervisor:
    """One release at a time, behind one socket. The working directory is the root."""

    def __init__(self, host: str, port: int) -> None:
        self.port = port
        self._listening = socket.create_server((host, port), backlog=128)
        self._release: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Starts what `current` points to; returns its version once it answers. Raises RuntimeError if it does not."""
        directory = Path("current").resolve(strict=True)
        fd = self._listening.fileno()
        argv = [sys.executable, str(directory / "server.py"), str(fd)]
        self._release = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[fd])
        until = time.monotonic() + ANSWERS_WITHIN
        while time.monotonic() < until:
            if (code := self._release.poll()) is not None:
                raise RuntimeError(f"release {directory.name} ended with {code} before it answered")
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError):
                if self._version() == directory.name:
                    return directory.name
            time.sleep(0.02)
        raise RuntimeError(f"release {directory.name} did not answer within {ANSWERS_WITHIN:g} s")

    def stop(self) -> None:
        """Lets it finish the answers under way; kills it after 5 s."""
        if self._release is None:
            return
        self._release.terminate()
        try:
            self._release.wait(5)
        except subprocess.TimeoutExpired:
            self._release.kill()
            self._release.wait()

    def crashed(self) -> bool:
        return self._release is not None and self._release.poll() is not None

    def _version(self) -> str:
        asking = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            asking.request("GET", "/health")
            return str(json.loads(asking.getresponse().read())["version"])
        finally:
            asking.close()


def run(port: int, host: str = "127.0.0.1") -> None:
    """In the root, until TERM or Ctrl-C."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    Path(CONTROL).unlink(missing_ok=True)
    supervisor = Supervisor(host, port)
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(CONTROL)
        control.listen()
        control.settimeout(0.5)
        try:
            _started(supervisor)
            while True:
                try:
                    client, _ = control.accept()
                except TimeoutError:
                    if supervisor.crashed():
                        print("the release has ended by itself: it is started again", flush=True)
                        _started(supervisor)
                    continue
                with client:
                    supervisor.stop()
                    result = _started(supervisor)
                    with contextlib.suppress(OSError):
                        client.sendall(result.encode())
        finally:
            supervisor.stop()
            Path(CONTROL).unlink(missing_ok=True)


def _started(supervisor: Supervisor) -> str:
    """What became of it. It goes on without a release that does not start: the next restart may bring a good one."""
    try:
        result = f"release {supervisor.start()} answers on port {supervisor.port}"
    except (OSError, RuntimeError) as problem:
        result = f"error: {problem}"
    print(result, flush=True)
    return result


def restart() -> int:
    """Asks the running supervisor, and says what it says."""
    try:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(3 * ANSWERS_WITHIN)
            control.connect(CONTROL)
            result = control.makefile().read()
    except OSError as problem:
        result = f"error: no supervisor runs in {Path.cwd()}: {problem}"
    good = result != "" and not result.startswith("error:")
    print(result or "error: the supervisor ended", file=sys.stdout if good else sys.stderr)
    return 0 if good else 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Keeps the release running that `current` points to.")
    parser.add_argument("command", choices=("run", "restart"))
    parser.add_argument("--root", type=Path, required=True, help="directory with releases/ and current")
    parser.add_argument("--port", type=int, help="to listen on; for `run`")
    args = parser.parse_args()
    os.chdir(args.root)  # a socket's path may have 107 characters only: from here it is short
    if args.command == "restart":
        return restart()
    if args.port is None:
        parser.error("run needs --port")
    run(args.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
