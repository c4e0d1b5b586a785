"""Keeps the release running that `current` points to, and replaces it without refusing a connection.

    supervisor.py run --root DIR --port N     runs until SIGTERM
    supervisor.py restart --root DIR          returns once the release that `current` points to answers

The supervisor owns the listening socket and passes it to each release: while one stops and the next one starts,
connections wait in the queue of that socket instead of being refused.
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
        """Starts the release that `current` points to and returns its version once it answers. Raises RuntimeError."""
        directory = Path("current").resolve(strict=True)
        fd = self._listening.fileno()
        argv = [sys.executable, str(directory / "server.py"), str(fd)]
        self._release = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[fd])
        until = time.monotonic() + ANSWERS_WITHIN
        while time.monotonic() < until:
            if (code := self._release.poll()) is not None:
                raise RuntimeError(f"release {directory.name} exited with {code} before it answered")
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError):
                if self._version() == directory.name:
                    return directory.name
            time.sleep(0.02)
        raise RuntimeError(f"release {directory.name} did not answer within {ANSWERS_WITHIN:g} s")

    def stop(self) -> None:
        """Stops the release after its running requests; kills it after 5 s."""
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
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/health")
            return str(json.loads(connection.getresponse().read())["version"])
        finally:
            connection.close()


def run(port: int, host: str = "127.0.0.1") -> None:
    """Runs in the root directory until SIGTERM or Ctrl-C."""

    def stop(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
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
                        print("the release exited unexpectedly: restarting it", flush=True)
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
    """Starts the release and returns the result. A release that does not start raises nothing: the next may be good."""
    try:
        result = f"release {supervisor.start()} answers on port {supervisor.port}"
    except (OSError, RuntimeError) as problem:
        result = f"error: {problem}"
    print(result, flush=True)
    return result


def restart() -> int:
    """Requests a restart from the running supervisor, and prints its result."""
    try:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(3 * ANSWERS_WITHIN)
            control.connect(CONTROL)
            result = control.makefile().read()
    except OSError as problem:
        result = f"error: no supervisor is running in {Path.cwd()}: {problem}"
    good = result != "" and not result.startswith("error:")
    print(result or "error: the supervisor exited", file=sys.stdout if good else sys.stderr)
    return 0 if good else 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Keeps the release running that `current` points to.")
    parser.add_argument("command", choices=("run", "restart"))
    parser.add_argument("--root", type=Path, required=True, help="directory with releases/ and current")
    parser.add_argument("--port", type=int, help="port to listen on, for `run`")
    args = parser.parse_args()
    os.chdir(args.root)  # a Unix socket path has at most 107 characters: the relative one is short
    if args.command == "restart":
        return restart()
    if args.port is None:
        parser.error("run needs --port")
    run(args.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
