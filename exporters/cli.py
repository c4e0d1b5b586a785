"""`exporters serve|check|probe`: exit code 0 for yes, 1 for no, 2 for a mistake in the command or the file."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from exporters import interrupt
from exporters.check import Check
from exporters.config import Loaded, load
from exporters.connections import Connections
from exporters.durations import written
from exporters.errors import ConfigError, Problem, Unable
from exporters.notes import Notes
from exporters.page import log_text
from exporters.probing import Result, run
from exporters.serve import leave, log_to_stderr, serve

YES, NO, MISTAKE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        _tell_problems(error, as_json=getattr(arguments, "output", "text") == "json")
        return MISTAKE
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="exporters",
        description="Tells Prometheus whether each service answers and what the host has left.",
        epilog="example: exporters serve --config exporters.yml",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, meaning: str, example: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=meaning, description=meaning, epilog=f"example: {example}")
        made.add_argument(
            "--config", type=Path, default=Path("exporters.yml"), metavar="FILE", help="default: exporters.yml"
        )
        return made

    made = command("serve", "Serve probes, resources and service discovery.", "exporters serve --listen 0.0.0.0:9469")
    made.add_argument("--listen", metavar="HOST:PORT", help="instead of `listen` in the configuration")
    made.set_defaults(run=_serve)
    made = command("check", "Check the configuration and list its checks.", "exporters check --config exporters.yml")
    made.add_argument("--output", choices=["text", "json"], default="text")
    made.set_defaults(run=_check)
    made = command("probe", "Run one check now; exit code 1 if it fails.", "exporters probe shop_health --output json")
    made.add_argument("check", metavar="ID", help="id of the check")
    made.add_argument("--output", choices=["text", "json"], default="text")
    made.set_defaults(run=_probe)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    log_to_stderr()
    asyncio.run(serve(arguments.config, listen=arguments.listen))
    leave(YES)
    return YES


def _check(arguments: argparse.Namespace) -> int:
    loaded = load(arguments.config)
    checks = [_shown(check, loaded) for check in loaded.config.checks]
    if arguments.output == "json":
        print(json.dumps({"ok": True, "checks": checks}, indent=2))
        return YES
    for check in checks:
        print(f"{check['id']:<28} {check['type']:<20} every {check['interval']:<6} {check['target']}")
    print(f"{arguments.config}: {len(checks)} checks, no mistakes")
    return YES


def _shown(check: Check, loaded: Loaded) -> dict[str, str]:
    return {
        "id": check.id,
        "service": check.service,
        "environment": check.environment,
        "type": check.type,
        "interval": written(check.interval),
        "timeout": written(check.patience),
        "target": loaded.redact(check.shown_target),
    }


def _probe(arguments: argparse.Namespace) -> int:
    loaded = load(arguments.config)
    check = loaded.config.by_id.get(arguments.check)
    if check is None:
        known = ", ".join(loaded.config.by_id) or "none"
        raise ConfigError([Problem(str(arguments.config), None, "checks", f"none has that id; there are: {known}")])
    try:
        result, notes = interrupt.run(_once(check, loaded))
    except Unable as unable:
        why = loaded.redact(str(unable))
        as_json = {"check": check.id, "success": None, "reason": "unable", "why": why}
        print(json.dumps(as_json, indent=2) if arguments.output == "json" else f"{check.id}: cannot tell: {why}")
        return NO
    if arguments.output == "json":
        print(json.dumps(_as_json(result, notes), indent=2))
    else:
        verdict = "ok" if result.success else f"FAILED ({result.reason}): {result.why}"
        print(f"{check.id}: {verdict}\n{loaded.redact(check.shown_target)}\n")
        print(f"{log_text(result)}\n\ntook {result.duration * 1000:.1f} ms of {result.allowed:g} s")
    return YES if result.success else NO


async def _once(check: Check, loaded: Loaded) -> tuple[Result, Notes]:
    reach = Connections(loaded.redact)
    try:
        return await run(check, reach)
    finally:
        await reach.close()


def _as_json(result: Result, notes: Notes) -> dict[str, object]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(notes)
    return {
        "check": result.check_id,
        "success": result.success,
        "reason": result.reason,
        "why": result.why,
        "duration_seconds": result.duration,
        "timeout_seconds": result.allowed,
        "log": [{"seconds": seconds, "text": text} for seconds, text in result.log],
        "series": [
            {"name": sample.name, "labels": sample.labels, "value": sample.value}
            for family in registry.collect()
            for sample in family.samples
        ],
    }


def _tell_problems(error: ConfigError, *, as_json: bool) -> None:
    if as_json:
        problems = [
            {"file": problem.file, "line": problem.line, "path": problem.path, "message": problem.message}
            for problem in error.problems
        ]
        print(json.dumps({"ok": False, "problems": problems}, indent=2))
        return
    for problem in error.problems:
        print(problem, file=sys.stderr)
