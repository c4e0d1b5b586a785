"""The commands: each asks the running responder; those about databases, `serve` and `check` read the configuration."""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from foundation import interrupt
from responder.cli import commands, databases, snapshots, versions
from responder.cli.client import CONFIG, NOT_LET_IN, TLS_FILES, Client, Refused, address, bearer, trust
from responder.cli.commands import NO, OK, WRONG
from responder.cli.display import show
from responder.cli.evidence import evidence
from responder.cli.watch import watch
from responder.errors import ConfigError, ResponderError


def _serve(args: argparse.Namespace) -> int:
    from responder.app.serve import serve

    asyncio.run(serve(args.config))
    return OK


def _check(args: argparse.Namespace) -> int:
    from responder.cli.checking.check import check

    return interrupt.run(check(args.config, live=args.live, output=args.output))


def _test_notification(args: argparse.Namespace) -> int:
    from responder.cli.checking.check import test_notification

    return interrupt.run(test_notification(args.config, args.channel))


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, default=CONFIG, help="configuration file (responder.yml)")
    common.add_argument("--output", choices=("text", "json"), default="text", help="how to show the answer")
    remote = argparse.ArgumentParser(add_help=False, parents=[common])
    remote.add_argument(
        "--url", help="where the responder listens (RESPONDER_URL, else web.listen of the configuration)"
    )
    remote.add_argument("--token-file", type=Path, help="file with the bearer token (else RESPONDER_TOKEN)")
    for option, variable, what in TLS_FILES:
        remote.add_argument(f"--{option}", type=Path, help=f"{what} ({variable})")
    parser = argparse.ArgumentParser(
        prog="responder", description="Puts the last known-good version back when Prometheus says so."
    )
    parser.add_argument("--version", action="version", version=f"responder {version('rollback-responder')}")
    known = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, what: str, example: str, act: Any, parent: argparse.ArgumentParser = remote
    ) -> argparse.ArgumentParser:
        made = known.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            epilog=f"example: {example}",
            parents=[parent],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(act=act)
        return made

    add("serve", "run the responder", "responder serve --config /etc/responder/responder.yml", _serve, common)
    command = add("check", "find every mistake in the configuration", "responder check --live", _check, common)
    command.add_argument(
        "--live", action="store_true", help="also try whether this user can use what plans need; nothing is changed"
    )
    command = add(
        "notify",
        "send a message that says it is a test",
        "responder notify slack",
        _test_notification,
        common,
    )
    command.add_argument("channel")
    command = add(
        "rollback",
        "roll a service back by hand",
        'responder rollback backend --reason "errors after 2.1" --wait',
        commands.rollback,
    )
    command.add_argument("service")
    command.add_argument("--environment", help="needed where the service is in several")
    command.add_argument("--to", metavar="VERSION", help="a version that was deployed before (the last known-good one)")
    command.add_argument(
        "--with", dest="also", action="append", default=[], metavar="SERVICE", help="in the same rollback; repeatable"
    )
    command.add_argument("--strategy", help="one of the service's alternatives (the usual one)")
    command.add_argument("--reason", required=True, help="for the record")
    command.add_argument("--dry-run", action="store_true", help="show guards and plan, do nothing")
    command.add_argument("--wait", action="store_true", help="show it until it is over; exit 1 unless it succeeded")
    command = add(
        "watch",
        "show a rollback as it happens; exit 0 once it has succeeded, 1 otherwise",
        "responder watch 20261123-231500-4f2a9c1b",
        watch,
    )
    command.add_argument("id")
    command = add(
        "approve", "approve a plan that waits", "responder approve 20261123-231500-4f2a9c1b", commands.approve
    )
    command.add_argument("id")
    command.add_argument("--plan", metavar="HASH", help="the plan that you have read (the one that it has now)")
    command.add_argument(
        "--although-resolved", action="store_true", help="roll back although the trouble is not visible any more"
    )
    command = add(
        "stop",
        "stop a rollback at its next safe point, or all automation",
        'responder stop --all --reason "maintenance"',
        commands.stop,
    )
    command.add_argument("id", nargs="?")
    command.add_argument("--all", action="store_true", help="throw the kill switch; `close --all` releases it")
    command.add_argument("--reason", default="", help="for the record")
    command = add(
        "close",
        "close a stuck rollback, or release the kill switch",
        'responder close 20261123-231500-4f2a9c1b --reason "fixed by hand"',
        commands.close,
    )
    command.add_argument("id", nargs="?")
    command.add_argument("--all", action="store_true", help="release the kill switch")
    command.add_argument("--outcome", choices=("failed", "succeeded", "reverted", "cancelled"), default="failed")
    command.add_argument("--reason", required=True, help="for the record")
    command = add("status", "what is going on; exit 1 where a human is needed", "responder status", commands.status)
    command.add_argument("--service", help="only this one")
    command.add_argument("--environment", help="only this one")
    command = add(
        "report",
        "how healthy it is, what stands out and what to do; or the draft of a post-mortem of one rollback",
        "responder report 20261123-231500-4f2a9c1b --plot plot.svg > post-mortem.md",
        commands.report,
    )
    command.add_argument("id", nargs="?", help="a rollback; then it is the draft of its post-mortem")
    command.add_argument("--execution", metavar="ID", help="the same")
    command.add_argument("--service", help="only this one")
    command.add_argument("--environment", help="only this one")
    command.add_argument("--since", metavar="TIME", help="what happened since then is counted: 24h, or a time (24h)")
    command.add_argument(
        "--format", choices=("text", "markdown", "json"), help="as --output; a post-mortem is Markdown"
    )
    command.add_argument("--plot", type=Path, metavar="FILE.svg", help="write the plot there, and link to it")
    command = add(
        "history", "past rollbacks, or one with its steps", "responder history --service backend", commands.history
    )
    command.add_argument("id", nargs="?")
    command.add_argument("--service")
    command.add_argument(
        "--state", choices=("accepted", "awaiting_approval", "running", "reverting", "stuck", "closed")
    )
    command.add_argument("--since", metavar="TIME", help="as 2026-11-23T22:00:00Z, or 24h")
    command.add_argument("--limit", type=int, default=20)
    command = add(
        "explain",
        "why it did or did not act, or what it would do with an alert body",
        "responder explain --last",
        commands.explain,
    )
    command.add_argument("file", nargs="?", metavar="FILE|-", help="a webhook body to judge without acting")
    command.add_argument(
        "--last", action="store_true", help="the last decisions with what every guard said (default without FILE)"
    )
    command.add_argument("--service")
    command.add_argument("--limit", type=int, default=3)
    command = add(
        "deployed",
        "tell that a version was deployed",
        "responder deployed backend 2.1.0 --artifact repo@sha256:…",
        versions.deployed,
    )
    command.add_argument("service")
    command.add_argument("version")
    command.add_argument("--environment", help="needed where the service is in several")
    command.add_argument("--platform", help="where it reached the platform only, as android (the service as a whole)")
    command.add_argument("--artifact", help="what the version is made of, as an image digest or versionCode=1234")
    command.add_argument("--provenance", metavar="URL", help="who built it, as the address of the pipeline's run")
    command.add_argument(
        "--requires",
        action="append",
        default=[],
        metavar="RANGE",
        help="versions of another service that it works with, as 'backend>=2.1'; repeatable",
    )
    command.add_argument(
        "--good", action="store_true", help="known good already, as for the first release that is told"
    )
    command.add_argument("--id", help="id of the deployment; telling it twice is telling it once")
    command.add_argument("--at", metavar="TIME", help="when, as 2026-11-23T22:00:00Z (now)")
    command = add(
        "mark",
        "say what you know of a version",
        'responder mark backend 2.1.0 --no-rollback "fixes CVE-2026-1234"',
        versions.mark,
    )
    command.add_argument("service")
    command.add_argument("version")
    command.add_argument("status", nargs="?", choices=("candidate", "good", "suspect", "bad", "retired"))
    command.add_argument("--environment", help="needed where the service is in several")
    command.add_argument(
        "--no-rollback", metavar="WHY", help="nothing may be rolled back past it, as for a security fix"
    )
    command.add_argument("--lift", action="store_true", help="it may be rolled back past again")
    command.add_argument("--reason", default="", help="for the record")
    command = add(
        "evidence",
        "what was kept of a rollback, or of a decision to keep logs",
        "responder evidence 20261123-231500-4f2a9c1b --fetch /tmp/evidence",
        evidence,
    )
    command.add_argument("id")
    command.add_argument("--fetch", type=Path, metavar="DIR", help="download it, and compare every file with its hash")
    command = add("versions", "what is known of a service's versions", "responder versions backend", versions.versions)
    command.add_argument("service")
    command.add_argument("--environment", help="needed with --platform where the service is in several")
    command.add_argument("--platform", help="those that reached it, what runs there and what it is made of")
    command.add_argument(
        "--history", action="store_true", help="all that was said of them: status and what they work with"
    )
    command = add(
        "clients",
        "show or change what the apps of a platform are told",
        'responder clients frontend android --block 3.0 --flag checkout=false --reason "charges twice"',
        versions.clients,
    )
    command.add_argument("service")
    command.add_argument("platform")
    command.add_argument("--environment", help="needed where the service is in several")
    command.add_argument("--min-version", metavar="VERSION", help="older apps must not go on ('' lifts it)")
    command.add_argument(
        "--block", action="append", default=[], metavar="VERSION", help="apps of it must not go on; repeatable"
    )
    command.add_argument("--unblock", action="append", default=[], metavar="VERSION", help="they may again; repeatable")
    command.add_argument(
        "--flag",
        action="append",
        default=[],
        metavar="NAME=false",
        help="a switch that apps obey (name=true, name=false; name= tells it no more); repeatable",
    )
    command.add_argument("--reason", default="", help="for the record; every change needs one")
    command.add_argument("--limit", type=int, default=20, help="so many changes are shown (20)")
    snapshots.add_to(known, common)
    databases.add_to(known, common)
    return parser


def _said(what: object) -> str:
    return "\n".join(map(show.clean, str(what).splitlines()))


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    args = _parser().parse_args(argv)
    try:
        if "url" not in args:  # from the configuration file alone
            return int(args.act(args))

        async def ask() -> int:
            tls = trust(*(getattr(args, option.replace("-", "_")) for option, _, _ in TLS_FILES))
            async with Client(address(args.url, args.config), bearer(args.token_file), tls) as client:
                return int(await args.act(args, client))

        return asyncio.run(ask())
    except ConfigError as e:
        print("\n".join(map(_said, e.mistakes)), file=sys.stderr)
        return WRONG
    except Refused as e:
        print(f"responder: {_said(e)}", file=sys.stderr)
        return WRONG if e.status in NOT_LET_IN else NO
    except ResponderError as e:
        print(f"responder: {_said(e)}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        return 130
