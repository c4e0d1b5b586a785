"""The program `responder`: parses its arguments, runs one command, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from responder.cli.command import TLS_FILES, WRONG, Commands, Refused
from responder.errors import ConfigError, ResponderError

_COMMANDS = {
    "responder.cli.configuration": {
        "serve": "run the responder",
        "check": "validate the configuration",
        "notify": "send a test notification",
        "assets": "write alert rules, dashboards, systemd units, CI helpers and documentation to a directory",
    },
    "responder.cli.rollbacks": {
        "rollback": "roll back a service",
        "watch": "follow a rollback; exit 0 if it succeeds, otherwise 1",
        "approve": "approve a plan that awaits approval",
        "stop": "stop a rollback at its next safe point, or all automation",
        "close": "close a stuck rollback, or release the kill switch",
        "history": "list past rollbacks, or show one rollback with its events",
    },
    "responder.cli.reports": {
        "status": "show the current state; exit 1 if a person is needed",
        "report": "report health, warnings and recommendations; with an ID, draft the post-mortem of a rollback",
    },
    "responder.cli.decisions": {
        "explain": "explain the last decisions, or evaluate a webhook body",
    },
    "responder.cli.versions": {
        "deployed": "report a deployment",
        "mark": "set the status of a version",
        "versions": "list the versions of a service",
        "clients": "show or change the document that apps poll",
    },
    "responder.cli.evidence": {
        "evidence": "show the evidence of a rollback, or logs that a decision preserved",
    },
    "responder.cli.snapshots": {
        "snapshots": "list, verify, restore, prune or take database snapshots",
    },
    "responder.cli.databases": {
        "schema": "print the fingerprint of a schema, to report with a deployment",
        "preserved": "list or restore data that rollbacks preserved",
    },
}
"""Each command and its summary, by the module that declares it. The module is imported when the command is used."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    used = next((word for word in argv if not word.startswith("-")), "")
    args = _parser(used).parse_args(argv)
    try:
        if "url" not in args:  # it uses only the configuration file
            return int(args.act(args))
        return _run_with_client(args)
    except ConfigError as e:
        print("\n".join(map(_printable, e.mistakes)), file=sys.stderr)
        return WRONG
    except ResponderError as e:
        print(f"responder: {_printable(e)}", file=sys.stderr)
        return e.exit_code if isinstance(e, Refused) else WRONG
    except KeyboardInterrupt:
        return 130


def _run_with_client(args: argparse.Namespace) -> int:
    import asyncio  # slow to import, as the client

    from responder.cli.client import ResponderClient, address, bearer, trust

    async def run() -> int:
        tls = trust(*(getattr(args, option.replace("-", "_")) for option, _, _ in TLS_FILES))
        async with ResponderClient(address(args.url, args.config), bearer(args.token_file), tls) as client:
            return int(await args.act(args, client))

    return asyncio.run(run())


def _parser(used: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands. If `used` names the one that is used, the others are only listed."""
    parser = argparse.ArgumentParser(
        prog="responder", description="Rolls services back to their last known-good version when Prometheus alerts."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    commands = Commands(parser, {name: line for lines in _COMMANDS.values() for name, line in lines.items()})
    for module, summaries in _COMMANDS.items():
        if used is None or used in summaries:
            import_module(module).add_to(commands)
        else:
            for name in summaries:
                commands.name(name)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version  # slow to import

        print(f"responder {version('rollback-responder')}")
        parser.exit()


def _printable(text: object) -> str:
    from responder.cli.display.terminal import clean  # slow to import

    return "\n".join(map(clean, str(text).splitlines()))
