"""The program `responder`: parses its arguments, runs one command, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib.metadata import version

from responder.cli import configuration, databases, decisions, evidence, reports, rollbacks, snapshots, versions
from responder.cli.client import TLS_FILES, WRONG_USE, Refused, ResponderClient, address, bearer, trust
from responder.cli.command import NO, WRONG, Commands
from responder.cli.display.terminal import clean
from responder.errors import ConfigError, ResponderError


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    args = _parser().parse_args(argv)
    try:
        if "url" not in args:  # it uses only the configuration file
            return int(args.act(args))
        return asyncio.run(_with_client(args))
    except ConfigError as e:
        print("\n".join(map(_printable, e.mistakes)), file=sys.stderr)
        return WRONG
    except Refused as e:
        print(f"responder: {_printable(e)}", file=sys.stderr)
        return WRONG if e.status in WRONG_USE else NO
    except ResponderError as e:
        print(f"responder: {_printable(e)}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        return 130


async def _with_client(args: argparse.Namespace) -> int:
    tls = trust(*(getattr(args, option.replace("-", "_")) for option, _, _ in TLS_FILES))
    async with ResponderClient(address(args.url, args.config), bearer(args.token_file), tls) as client:
        return int(await args.act(args, client))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="responder", description="Rolls services back to their last known-good version when Prometheus alerts."
    )
    parser.add_argument("--version", action="version", version=f"responder {version('rollback-responder')}")
    commands = Commands(parser)
    for module in (configuration, rollbacks, reports, decisions, versions, evidence):
        module.add_to(commands)
    snapshots.add_to(commands.subparsers, commands.local)
    databases.add_to(commands.subparsers, commands.local)
    return parser


def _printable(text: object) -> str:
    return "\n".join(map(clean, str(text).splitlines()))
