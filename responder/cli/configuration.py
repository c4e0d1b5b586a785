"""Commands that need at most the configuration file: `serve`, `check`, `notify`, `assets`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
from dataclasses import asdict
from pathlib import Path

from foundation import interrupt
from responder.assets import RUNBOOK_URL
from responder.cli.command import CONFIG, OK, Commands


def add_to(commands: Commands) -> None:
    """Declares the commands."""
    commands.add("serve", "serve --config /etc/responder/responder.yml", _serve, local=True)
    parser = commands.add("check", "check --live", _check, local=True)
    parser.add_argument(
        "--live",
        action="store_true",
        help="also check access to every external system, as this user; changes nothing",
    )
    parser.add_argument(
        "--rules",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="rule files of Prometheus: report rules that offer a rollback but reach no policy",
    )
    parser = commands.add("notify", "notify slack", _notify, local=True)
    parser.add_argument("channel", help="one of `notify.channels`")
    parser = commands.add("assets", "assets /etc/prometheus/responder", _assets, local=True)
    parser.add_argument("directory", type=Path, metavar="DIR", help="created if it does not exist")
    parser.add_argument(
        "--runbook-url",
        metavar="URL",
        help=f"address of the runbooks in rules and dashboards (default: the responder of the configuration file if it"
        f" exists, else {RUNBOOK_URL})",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that have other content")


def _assets(args: argparse.Namespace) -> int:
    from responder.assets.writing import write

    url = args.runbook_url
    if url is None and (args.config != CONFIG or args.config.exists()):
        from responder.app.loading import load  # slow to import

        url = f"{load(args.config).web.url}/runbooks"
    written = write(args.directory, url or RUNBOOK_URL, force=args.force)
    if args.output == "json":
        print(json.dumps({"directory": str(args.directory), **asdict(written)}, indent=2))
        return OK
    for name in written.overwritten:
        print(f"overwritten {args.directory / name}")
    print(f"{len(written.new)} new, {len(written.overwritten)} overwritten, {len(written.unchanged)} unchanged files")
    return OK


# Each imports most of the responder, which takes longer than any other command.
def _serve(args: argparse.Namespace) -> int:
    gc.disable()  # until the configuration is loaded: nothing that the imports make is garbage
    from responder.app.serve import serve

    asyncio.run(serve(args.config))
    return OK


def _check(args: argparse.Namespace) -> int:
    from responder.cli.checking.check import check

    return interrupt.run(check(args.config, live=args.live, output=args.output, rules=args.rules))


def _notify(args: argparse.Namespace) -> int:
    from responder.cli.checking.notification import test_notification

    return interrupt.run(test_notification(args.config, args.channel))
