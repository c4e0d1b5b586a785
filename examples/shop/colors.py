"""The shop in two colors on one disk: each has its releases, and one small file says which has the customers.

python -m examples.shop.colors run blue       serves until SIGTERM
python -m examples.shop.colors ship 1.1       puts a release live in the idle color, and tells the responder
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
    """What the proxy reads. The responder's configuration says the same."""
    return f"set $live shop-{color}:{PORT};"


def run(color: str) -> None:
    """Keeps the current release of this color running. The very first start makes the releases; blue is live then."""
    root = ROOT / color
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "current").is_symlink():
        releases.build(root)
    with contextlib.suppress(FileExistsError), LIVE.open("x") as file:
        file.write(upstream("blue") + "\n")
    os.chdir(root)
    supervisor.run(PORT, "0.0.0.0")


def ship(version: str, responder: list[str]) -> None:
    """As any deployment does it: into the idle color, up, the customers there, and the last line tells of it."""
    live = next(color for color in COLORS if LIVE.read_text().strip() == upstream(color))
    at = datetime.now(UTC).isoformat()
    if _runs(live) != version:
        (live,) = set(COLORS) - {live}
        _start(live, version)
        at = datetime.now(UTC).isoformat()  # when customers get it: what was wrong before that is not its fault
        _replace(LIVE, upstream(live))
    print(f"{version} has the customers, in {live}", flush=True)
    tell = ["responder", "deployed", "shop", version, "--at", at, "--token-file", TOKEN, *responder]
    sys.exit(subprocess.run(tell, check=False).returncode)


def _start(color: str, version: str) -> None:
    root = ROOT / color
    if not (root / "releases" / version).is_dir():
        sys.exit(f"there is no release {version}: {', '.join(sorted(releases.RELEASES))}")
    new = root / "current.new"
    new.unlink(missing_ok=True)
    new.symlink_to(Path("releases") / version)
    new.replace(root / "current")
    os.chdir(root)
    if supervisor.restart():
        sys.exit(f"{version} does not start in {color}; the customers are still with the other one")


def _runs(color: str) -> str:
    asking = http.client.HTTPConnection(f"shop-{color}", PORT, timeout=5)
    with contextlib.closing(asking):
        asking.request("GET", "/health")
        return str(json.loads(asking.getresponse().read())["version"])


def _replace(file: Path, text: str) -> None:
    new = file.with_name(f".{file.name}.new")
    new.write_text(text + "\n")
    new.replace(file)


def main() -> None:
    """The command line. What follows a version goes to `responder deployed`."""
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
