"""Commands that need only the configuration file: `serve`, `check`, `notify`."""

from __future__ import annotations

import argparse
import asyncio
import gc

from foundation import interrupt
from responder.cli.command import OK, Commands


def add_to(commands: Commands) -> None:
    """Declares the commands."""
    commands.add("serve", "serve --config /etc/responder/responder.yml", _serve, local=True)
    parser = commands.add("check", "check --live", _check, local=True)
    parser.add_argument(
        "--live",
        action="store_true",
        help="also check access to every external system, as this user; changes nothing",
    )
    parser = commands.add("notify", "notify slack", _notify, local=True)
    parser.add_argument("channel", help="one of `notify.channels`")


# Each imports most of the responder, which takes longer than any other command.
def _serve(args: argparse.Namespace) -> int:
    gc.disable()  # until the configuration is loaded: nothing that the imports make is garbage
    from responder.app.serve import serve

    asyncio.run(serve(args.config))
    return OK


def _check(args: argparse.Namespace) -> int:
    from responder.cli.checking.check import check

    return interrupt.run(check(args.config, live=args.live, output=args.output))


def _notify(args: argparse.Namespace) -> int:
    from responder.cli.checking.notification import test_notification

    return interrupt.run(test_notification(args.config, args.channel))
