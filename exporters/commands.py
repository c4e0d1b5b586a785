"""The commands `serve`, `check` and `probe`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from click.decorators import FC

from exporters.clients.address import host_and_port
from exporters.clients.connections import Connections
from exporters.config import Loaded, load
from exporters.errors import ConfigError, Unable
from exporters.output import ProbeOutput
from exporters.probes.check import Check
from exporters.runner import Result, run
from exporters.serve import exit_if_lookups_hang
from exporters.serve import serve as run_server
from exporters.web.page import log_text
from foundation import interrupt
from foundation.commands.command import Args, Command, Names, OneOf, declare
from foundation.commands.completion import completion_of
from foundation.commands.failure import NO, OK, WRONG
from foundation.configuration.findings import FORMATS, finding_of, rendered
from foundation.durations import format_duration
from foundation.logging import set_up

_config = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("exporters.yml"),
    metavar="FILE",
    help="configuration file",
    show_default=True,
)


def _output_option(*formats: str) -> Callable[[FC], FC]:
    return click.option("--output", type=OneOf(formats), default="text", help="output format", show_default=True)


_output = _output_option("text", "json")


def _command(example: str) -> Callable[[Callable[[Args], int]], Command]:
    return lambda run: declare(run, run, example=f"exporters {example}")


def _ids(options: Mapping[str, Any], _: str) -> Mapping[str, str]:
    config = load(options.get("config") or Path("exporters.yml")).config
    return {check.id: check.service for check in config.checks}


completion = completion_of("exporters")


@_command("serve --listen 0.0.0.0:9469")
@click.option("--listen", metavar="HOST:PORT", help="overrides `listen` in the configuration")
@_config
@_output
def serve(args: Args) -> int:
    if args.listen is not None:
        try:
            host_and_port(args.listen)
        except ValueError as e:
            raise click.BadParameter(f"{args.listen!r} {e}", param_hint="--listen") from None
    set_up("json", "info")
    asyncio.run(run_server(args.config, listen=args.listen))
    exit_if_lookups_hang(OK)
    return OK


@_command("check --config exporters.yml")
@_config
@_output_option(*FORMATS)
def check(args: Args) -> int:
    try:
        loaded = load(args.config)
    except ConfigError as error:
        if args.output == "text":
            raise
        print(rendered(error.findings, args.output, "exporters"))
        return WRONG
    if args.output != "text":
        print(rendered(loaded.warnings, args.output, "exporters"))
        return OK
    for check in loaded.config.checks:
        target, interval = loaded.redact(check.shown_target), format_duration(check.interval)
        print(f"{check.id:<28} {check.type:<20} every {interval:<6} {target}")
    for warning in loaded.warnings:
        print(warning)
    print(f"{args.config}: no errors; checks: {len(loaded.config.checks)}")
    return OK


@_command("probe shop_health --output json")
@click.argument("check", type=Names(_ids), metavar="ID", help="ID of the check")
@_config
@_output
def probe(args: Args) -> int:
    loaded = load(args.config)
    check = loaded.config.by_id.get(args.check)
    if check is None:
        known = ", ".join(loaded.config.by_id) or "none"
        why = f"no check has the ID {args.check!r}; configured: {known}"
        raise ConfigError([finding_of(why, file=str(args.config), path="checks")])
    try:
        result, output = interrupt.run(_run_once(check, loaded))
    except Unable as unable:
        why = loaded.redact(str(unable))
        as_json = {"check": check.id, "success": None, "reason": "unable", "why": why}
        print(json.dumps(as_json, indent=2) if args.output == "json" else f"{check.id}: inconclusive: {why}")
        return NO
    if args.output == "json":
        print(json.dumps(_as_json(result, output), indent=2))
    else:
        outcome = "ok" if result.success else f"FAILED ({result.reason}): {result.why}"
        print(f"{check.id}: {outcome}\n{loaded.redact(check.shown_target)}\n")
        print(f"{log_text(result)}\n\ntook {result.duration * 1000:.1f} ms of {result.allowed:g} s")
    return OK if result.success else NO


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
