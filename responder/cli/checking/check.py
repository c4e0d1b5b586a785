"""`check`: reports every mistake in the configuration, and with `--live` everything that would fail in a rollback."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from foundation.commands.failure import NO, OK, WRONG
from foundation.configuration.findings import Finding, Format, Severity, rendered
from foundation.configuration.yaml_document import YamlDocument
from responder.app.loading import load_with_document
from responder.app.settings import Config
from responder.backends.host.access import user
from responder.cli.checking.alert_chain import unmatched_rules, unrecorded_rules
from responder.cli.checking.hints import hints_for
from responder.cli.checking.live import Found, preflight
from responder.cli.checking.rule_files import read_rules
from responder.cli.checking.suspicions import suspicions
from responder.cli.display.terminal import console
from responder.errors import ConfigError
from responder.journal import check_journal

_AS_ROOT = (
    "root can write and run files that the service user cannot; run the check as that user, for example "
    "sudo -u responder responder check --live"
)
_STYLES: dict[Severity, str] = {"error": "red", "warning": "yellow"}


async def check(file: Path, *, live: bool, output: Format, rules: Sequence[Path] = ()) -> int:
    """Exit code 0 without errors, 1 if something would prevent a rollback, 2 if a file has mistakes.

    `rules`: files of alert rules, which are checked against the policies.
    """
    try:
        config, document = load_with_document(file)
        await _check_state(config, document)
        groups = [group for rule_file in rules for group in read_rules(rule_file)]
    except ConfigError as e:
        _print(e.findings, output)
        return WRONG
    offered = [*unmatched_rules(groups, config.policies), *unrecorded_rules(groups, config.policies)]
    problems = [Found(("policies",), problem) for problem in offered]
    problems += await preflight(config) if live else []
    found = [document.finding(path, str(problem)) for path, problem in problems]
    found_risks = [*suspicions(config, document), *hints_for(config)]
    risks = [document.finding(path, text, "warning") for path, text in found_risks]
    if live and os.geteuid() == 0:
        risks.append(document.finding((), _AS_ROOT, "warning"))
    _print([*found, *risks], output)
    if output == "text":
        _print_summary(file, config, live=live, good=not found)
    return NO if found else OK


async def _check_state(config: Config, document: YamlDocument) -> None:
    """Raises ConfigError if the file of a SQLite journal is not usable. A running responder is not affected."""
    if config.state.startswith("sqlite:"):
        try:
            await check_journal(config.state)
        except ConfigError as e:
            line = document.line(("state",))
            raise ConfigError([finding._replace(file=document.name, line=line) for finding in e.findings]) from None


def _print(findings: Sequence[Finding], output: Format) -> None:
    if output != "text":
        print(rendered(findings, output, "responder"))
    else:
        for finding in findings:
            console().print(str(finding), style=_STYLES[finding.severity], markup=False, soft_wrap=True)


def _print_summary(file: Path, config: Config, *, live: bool, good: bool) -> None:
    terminal = console()
    modes = ", ".join(f"{policy.name} ({policy.manner})" for policy in config.policies) or "none"
    services = f"{len(config.services)} service{'' if len(config.services) == 1 else 's'}"
    terminal.print(f"{file}: {services}; policies: {modes}", markup=False, soft_wrap=True)
    if live:
        terminal.print(f"checked as {user()}", markup=False, soft_wrap=True)
    if good:
        terminal.print("no problems found", style="green")
