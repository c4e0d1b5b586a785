"""Commands `exporters serve|check|probe`. Exit codes: 0 success, 1 failed check, 2 wrong usage or configuration."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from exporters.clients.connections import Connections
from exporters.config import Loaded, load
from exporters.errors import ConfigError, Problem, Unable
from exporters.output import ProbeOutput
from exporters.probes.check import Check
from exporters.runner import Result, run
from exporters.serve import exit_if_lookups_hang, serve
from exporters.web.page import log_text
from foundation import interrupt
from foundation.durations import format_duration
from foundation.logging import set_up

SUCCESS, FAILURE, MISTAKE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        _print_problems(error, as_json=getattr(arguments, "output", "text") == "json")
        return MISTAKE
    except KeyboardInterrupt:
        return interrupt.EXIT_CODE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="exporters",
        description="Export to Prometheus whether services answer and what resources the host has left.",
        epilog="example: exporters serve --config exporters.yml",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, meaning: str, example: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=meaning, description=meaning, epilog=f"example: {example}")
        added.add_argument(
            "--config", type=Path, default=Path("exporters.yml"), metavar="FILE", help="default: exporters.yml"
        )
        return added

    added = command("serve", "Serve probes, resources and service discovery.", "exporters serve --listen 0.0.0.0:9469")
    added.add_argument("--listen", metavar="HOST:PORT", help="overrides `listen` in the configuration")
    added.set_defaults(run=_serve)
    added = command("check", "Check the configuration and list its checks.", "exporters check --config exporters.yml")
    added.add_argument("--output", choices=["text", "json"], default="text")
    added.set_defaults(run=_check)
    added = command("probe", "Run one check now; exit code 1 if it fails.", "exporters probe shop_health --output json")
    added.add_argument("check", metavar="ID", help="ID of the check")
    added.add_argument("--output", choices=["text", "json"], default="text")
    added.set_defaults(run=_probe)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    set_up("json", "info")
    asyncio.run(serve(arguments.config, listen=arguments.listen))
    exit_if_lookups_hang(SUCCESS)
    return SUCCESS


def _check(arguments: argparse.Namespace) -> int:
    loaded = load(arguments.config)
    checks = [_summary(check, loaded) for check in loaded.config.checks]
    if arguments.output == "json":
        print(json.dumps({"ok": True, "checks": checks}, indent=2))
        return SUCCESS
    for check in checks:
        print(f"{check['id']:<28} {check['type']:<20} every {check['interval']:<6} {check['target']}")
    print(f"{arguments.config}: {len(checks)} checks, no errors")
    return SUCCESS


def _summary(check: Check, loaded: Loaded) -> dict[str, str]:
    return {
        "id": check.id,
        "service": check.service,
        "environment": check.environment,
        "type": check.type,
        "interval": format_duration(check.interval),
        "timeout": format_duration(check.time_limit),
        "target": loaded.redact(check.shown_target),
    }


def _probe(arguments: argparse.Namespace) -> int:
    loaded = load(arguments.config)
    check = loaded.config.by_id.get(arguments.check)
    if check is None:
        known = ", ".join(loaded.config.by_id) or "none"
        why = f"no check has the ID {arguments.check!r}; configured: {known}"
        raise ConfigError([Problem(str(arguments.config), None, "checks", why)])
    try:
        result, output = interrupt.run(_run_once(check, loaded))
    except Unable as unable:
        why = loaded.redact(str(unable))
        as_json = {"check": check.id, "success": None, "reason": "unable", "why": why}
        print(json.dumps(as_json, indent=2) if arguments.output == "json" else f"{check.id}: inconclusive: {why}")
        return FAILURE
    if arguments.output == "json":
        print(json.dumps(_as_json(result, output), indent=2))
    else:
        outcome = "ok" if result.success else f"FAILED ({result.reason}): {result.why}"
        print(f"{check.id}: {outcome}\n{loaded.redact(check.shown_target)}\n")
        print(f"{log_text(result)}\n\ntook {result.duration * 1000:.1f} ms of {result.allowed:g} s")
    return SUCCESS if result.success else FAILURE


async def _run_once(check: Check, loaded: Loaded) -> tuple[Result, ProbeOutput]:
    connections = Connections(loaded.redact)
    try:
        return await run(check, connections)
    finally:
        await connections.close()


def _as_json(result: Result, output: ProbeOutput) -> dict[str, object]:
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
            for family in output.collect()
            for sample in family.samples
        ],
    }


def _print_problems(error: ConfigError, *, as_json: bool) -> None:
    if as_json:
        problems = [
            {"file": problem.file, "line": problem.line, "path": problem.path, "message": problem.message}
            for problem in error.problems
        ]
        print(json.dumps({"ok": False, "problems": problems}, indent=2))
        return
    for problem in error.problems:
        print(problem, file=sys.stderr)
