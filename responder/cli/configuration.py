"""Commands that need at most the configuration file: `init`, `serve`, `check`, `notify`, `assets`."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from dataclasses import asdict, fields
from pathlib import Path

import click

from foundation import interrupt
from foundation.commands.command import Args, Many, OneOf
from foundation.commands.completion import completion_of
from foundation.commands.failure import OK
from foundation.configuration.findings import FORMATS
from responder.assets import RUNBOOK_URL
from responder.cli.command import CONFIG, FILE, local
from responder.cli.ids import CHANNEL

completion = completion_of("responder")


@local("init /etc/responder --service backend --health-url http://127.0.0.1:8080/health")
@click.argument("directory", type=FILE, metavar="[DIR]", default=Path("/etc/responder"), help="where to write")
@click.option("--from-compose", type=FILE, metavar="FILE", help="read services from a Compose file; - reads stdin")
@click.option("--from-kubernetes", metavar="NAMESPACE", default="", help="read services from a namespace")
@click.option(
    "--service", "services", metavar="NAME", multiple=True, help="name of a service; repeatable with --from-…"
)
@click.option("--environment", metavar="NAME", default="", help="environment of the services (default: production)")
@click.option("--health-url", metavar="URL", default="", help="URL that answers 2xx while the service is healthy")
@click.option("--root", type=FILE, metavar="DIR", help="directory of `current` and `releases` (default: /srv/SERVICE)")
@click.option(
    "--restart", metavar="COMMAND", default="", help="restarts the service (default: systemctl restart SERVICE)"
)
@click.option(
    "--channel",
    default="",
    help="where notifications go: slack:URL, webhook:URL, email:ADDRESS or console (default)",
)
@click.option("--mode", type=OneOf(("observe", "approve", "auto")), default="observe", help="mode of the policy")
@click.option("--user", metavar="NAME", default="", help="user that runs the responder (default: owner of --root)")
@click.option("--force", is_flag=True, help="overwrite files that have other content, except secrets")
def init(args: Args) -> int:
    """Asks for what is missing, if it runs in a terminal."""
    return interrupt.run(_init(args))


async def _init(args: Args) -> int:
    from responder.app.setup.questions import Answers, setup_of, unattended  # slow to import
    from responder.app.setup.render import SECRETS
    from responder.assets.writing import write_files

    answers = Answers(**{field.name: getattr(args, field.name) for field in fields(Answers)})
    setup, found = await setup_of(answers, _answer if sys.stdin.isatty() else unattended)
    files = setup.files()
    contents = {name: text.encode() for name, text in files.items()}
    secret = {name for name in files if name.startswith(SECRETS)}
    written = write_files(setup.directory, contents, secret=secret, force=args.force)
    if args.output == "json":
        print(json.dumps({"directory": str(setup.directory), **asdict(written), "left_out": found.left_out}, indent=2))
        return OK
    for name in (*written.new, *written.overwritten):
        print(setup.directory / name)
    for name, reason in found.left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    print(f"\n{files['next-steps.md']}", end="")
    return OK


def _answer(option: str, question: str, default: str) -> str:
    """The answer of a person."""
    while True:
        answer = input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default
        if answer:
            return answer


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
