"""The shop in two colors on one disk: each color has its releases, and a small file names the live color.

python -m examples.shop.colors run blue       serves until SIGTERM
python -m examples.shop.colors ship 1.1       deploys a release to the idle color, and reports it
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from examples.shop import releases, supervisor

ROOT = Path("/srv/shop")
LIVE = ROOT / "live.conf"
PORT = 8080
TOKEN = "/run/secrets/pipeline_token"
COLORS = ("blue", "green")


def upstream(color: str) -> str:
    """The configuration line that the proxy includes. The responder's configuration has the same text."""
    return f"set $live shop-{color}:{PORT};"


def run(color: str) -> None:
    """Keeps the current release of this color running. The first start creates the releases and makes blue live."""
    root = ROOT / color
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "current").is_symlink():
        releases.build(root)
    with contextlib.suppress(FileExistsError), LIVE.open("x") as file:
        file.write(upstream("blue") + "\n")
    os.chdir(root)
    supervisor.run(PORT, "0.0.0.0")


def ship(version: str, responder: list[str]) -> None:
    """Deploys like any pipeline: starts the release in the idle color, switches the traffic, and reports it."""
    live = next(color for color in COLORS if LIVE.read_text().strip() == upstream(color))
    at = datetime.now(UTC).isoformat()
    if _runs(live) != version:
        (live,) = set(COLORS) - {live}
        _start(live, version)
        at = datetime.now(UTC).isoformat()  # when customers get it: earlier problems are not caused by it
        _replace(LIVE, upstream(live))
    print(f"{version} is live in {live}", flush=True)
    report = ["responder", "deployed", "shop", version, "--at", at, "--token-file", TOKEN, *responder]
    sys.exit(subprocess.run(report, check=False).returncode)


def _start(color: str, version: str) -> None:
    root = ROOT / color
    if not (root / "releases" / version).is_dir():
        sys.exit(f"unknown release {version}: expected one of {', '.join(sorted(releases.RELEASES))}")
    new = root / "current.new"
    new.unlink(missing_ok=True)
    new.symlink_to(Path("releases") / version)
    new.replace(root / "current")
    os.chdir(root)
    if supervisor.restart():
        sys.exit(f"{version} does not start in {color}; the other color stays live")


def _runs(color: str) -> str:
    connection = http.client.HTTPConnection(f"shop-{color}", PORT, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/health")
        return str(json.loads(connection.getresponse().read())["version"])


def _replace(file: Path, text: str) -> None:
    new = file.with_name(f".{file.name}.new")
    new.write_text(text + "\n")
    new.replace(file)


def main() -> None:
    """The command line. Arguments after the version are passed to `responder deployed`."""
    parser = argparse.ArgumentParser(description="The shop in two colors.")
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("run").add_argument("color", choices=COLORS)
    commands.add_parser("ship").add_argument("version")
    args, more = parser.parse_known_args()
    if args.command == "run":
        run(args.color)
    else:
        ship(args.version, more)


if __name__ == "__main__":
    main()
