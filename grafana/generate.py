"""Writes the dashboards: `python -m grafana.generate`. With `--check` it only compares them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from grafana import execution, host, itself, rollbacks, services

DIRECTORY = Path(__file__).parent / "dashboards"
DASHBOARDS = {
    "rollbacks.json": rollbacks.DASHBOARD,
    "execution.json": execution.DASHBOARD,
    "services.json": services.DASHBOARD,
    "host.json": host.DASHBOARD,
    "itself.json": itself.DASHBOARD,
}


def written() -> dict[str, str]:
    """The text of each file."""
    return {name: json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n" for name, dashboard in DASHBOARDS.items()}


def stale() -> list[str]:
    """The files that differ from the generated ones, and those that are no longer generated."""
    there = {file.name: file.read_text() for file in DIRECTORY.glob("*")}
    texts = written()
    return sorted(name for name in {*there, *texts} if there.get(name) != texts.get(name))


def main() -> int:
    """Writes the files, or with `--check` lists stale ones (exit code 1)."""
    parser = argparse.ArgumentParser(prog="python -m grafana.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a dashboard is stale")
    if parser.parse_args().check:
        for name in (found := stale()):
            print(f"grafana/dashboards/{name} is stale: run python -m grafana.generate")
        return 1 if found else 0
    for name, text in written().items():
        (DIRECTORY / name).write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
