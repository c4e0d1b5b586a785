"""Commands that need at most the configuration file: `serve`, `check`, `notify`, `assets`."""

from __future__ import annotations

import asyncio
import gc
import json
from dataclasses import asdict

import click

from foundation import interrupt
from foundation.commands.command import Args, Many
from foundation.commands.completion import completion_of
from foundation.commands.failure import OK
from foundation.configuration.findings import FORMATS
from responder.assets import RUNBOOK_URL
from responder.cli.command import CONFIG, FILE, local
from responder.cli.ids import CHANNEL

completion = completion_of("responder")


@local("assets /etc/prometheus/responder")
@click.argument("directory", type=FILE, metavar="DIR", help="created if it does not exist")
@click.option(
    "--runbook-url",
    metavar="URL",
    help=f"address of the runbooks in rules and dashboards (default: the responder of the configuration file if it"
    f" exists, else {RUNBOOK_URL})",
)
@click.option("--force", is_flag=True, help="overwrite files that have other content")
def assets(args: Args) -> int:
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
@local("serve --config /etc/responder/responder.yml")
def serve(args: Args) -> int:
    gc.disable()  # until the configuration is loaded: nothing that the imports make is garbage
    from responder.app.serve import serve as run

    asyncio.run(run(args.config))
    return OK


@local("check --live", FORMATS)
@click.option("--live", is_flag=True, help="also check access to every external system, as this user; changes nothing")
@click.option(
    "--rules",
    cls=Many,
    type=FILE,
    metavar="FILE...",
    help="rule files of Prometheus: report rules that offer a rollback but reach no policy",
)
def check(args: Args) -> int:
    from responder.cli.checking.check import check as run

    return interrupt.run(run(args.config, live=args.live, output=args.output, rules=args.rules))


@local("notify slack")
@click.argument("channel", type=CHANNEL, help="one of `notify.channels`")
def notify(args: Args) -> int:
    from responder.cli.checking.notification import test_notification

    return interrupt.run(test_notification(args.config, args.channel))
