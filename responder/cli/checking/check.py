"""`check`: reports every mistake in the configuration, and with `--live` everything that would fail in a rollback."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foundation.commands.failure import NO, OK, WRONG
from responder.app.loading import load, locator
from responder.app.settings import Config
from responder.backends.host.access import user
from responder.cli.checking.alert_chain import unmatched_rules, unrecorded_rules
from responder.cli.checking.hints import hints_for
from responder.cli.checking.live import Found, preflight
from responder.cli.checking.rule_files import read_rules
from responder.cli.display.terminal import console
from responder.errors import ConfigError

_AS_ROOT = (
    "root can write and run files that the service user cannot: run the check as that user, for example "
    "sudo -u responder responder check --live"
)


async def check(file: Path, *, live: bool, output: str, rules: Sequence[Path] = ()) -> int:
    """Exit code 0 without problems, 1 if something would prevent a rollback, 2 if a file has mistakes.

    `rules`: files of alert rules, which are checked against the policies.
    """
    try:
        config = load(file)
        _check_state(config)
        groups = [group for rule_file in rules for group in read_rules(rule_file)]
    except ConfigError as e:
        if output == "json":
            _print_json(e.mistakes, [], [], live=live)
        else:
            for mistake in e.mistakes:
                console().print(mistake, style="red", markup=False, soft_wrap=True)
        return WRONG
    locate = locator(file)
    offered = [*unmatched_rules(groups, config.policies), *unrecorded_rules(groups, config.policies)]
    problems = [Found(("policies",), problem) for problem in offered]
    problems += await preflight(config) if live else []
    found = [(locate(problem.path), problem) for problem in problems]
    hints = [f"{locate(path)}: {hint}" for path, hint in hints_for(config)]
    hints += [_AS_ROOT] if live and os.geteuid() == 0 else []
    if output == "json":
        _print_json([], found, hints, live=live)
    else:
        _print(file, config, found, hints, live=live)
    return NO if found else OK


def _print_json(mistakes: list[str], found: list[tuple[str, Found]], hints: list[str], *, live: bool) -> None:
    problems = [{"location": location, **problem.problem._asdict()} for location, problem in found]
    body: dict[str, Any] = {"mistakes": mistakes, "problems": problems, "hints": hints}
    print(json.dumps({**body, "checked_as": user()} if live else body, indent=2))


def _print(file: Path, config: Config, found: list[tuple[str, Found]], hints: list[str], *, live: bool) -> None:
    terminal = console()
    for location, problem in found:
        terminal.print(f"{location}: {problem.problem}", style="yellow", markup=False, soft_wrap=True)
    modes = ", ".join(f"{policy.name} ({policy.manner})" for policy in config.policies) or "none"
    services = f"{len(config.services)} service{'' if len(config.services) == 1 else 's'}"
    terminal.print(f"{file}: {services}; policies: {modes}", markup=False, soft_wrap=True)
    if live:
        terminal.print(f"checked as {user()}", markup=False, soft_wrap=True)
    for hint in hints:
        terminal.print(f"hint: {hint}", style="dim", markup=False, soft_wrap=True)
    if not found:
        terminal.print("no problems found", style="green")


def _check_state(config: Config) -> None:
    """Raises ConfigError if the directory of a SQLite journal is not writable. A running responder is not affected."""
    if config.state.startswith("sqlite:///"):
        file = Path(config.state.removeprefix("sqlite://"))
        nearest = next(p for p in (file.parent, *file.parents) if p.exists())
        if not os.access(nearest, os.W_OK):
            raise ConfigError([f"state: {nearest} is not writable for this user"])
