"""Whether a restart command would work, according to sudo, systemd and Docker. Restarts nothing."""

from __future__ import annotations

from pathlib import Path

from responder.backends.host.client import Local
from responder.backends.host.container_access import container_problems
from responder.backends.problems import Problem
from responder.errors import StepFailed, Unavailable

_WITHIN = 5.0
_OF_UNITS = ("restart", "reload", "try-restart", "reload-or-restart", "try-reload-or-restart", "start", "kill")
_WITH_A_VALUE = ("-u", "-g", "--user", "--group")


async def restart_problems(local: Local, argv: tuple[str, ...], cwd: Path) -> list[Problem]:
    """Commands that sudo denies, unknown systemd units and stopped containers; empty for other programs."""
    command = argv
    if Path(argv[0]).name == "sudo":
        options, command = _without_options(argv)
        if not command:
            return []
        found = await local.program_problems(command, cwd)
        listed = (
            "-n",
            *(option for option in options if option not in ("-n", "--non-interactive")),
            "-l",
            "--",
            *command,
        )
        found += await _denied(
            local,
            (argv[0], *listed),
            cwd,
            fix="allow it in sudoers with NOPASSWD, or let polkit allow it and leave sudo out",
        )
        if found:
            return found
    return [*await _unknown_units(local, command, cwd), *await container_problems(local, command, cwd)]


def _without_options(argv: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The options of sudo, and the command that it runs."""
    at = 1
    while at < len(argv) and argv[at].startswith("-"):
        if argv[at] == "--":
            return argv[1:at], argv[at + 1 :]
        at += 2 if argv[at] in _WITH_A_VALUE else 1
    return argv[1:at], argv[at:]


async def _unknown_units(local: Local, argv: tuple[str, ...], cwd: Path) -> list[Problem]:
    words = [word for word in argv[1:] if not word.startswith("-")]
    if Path(argv[0]).name != "systemctl" or len(words) < 2 or words[0] not in _OF_UNITS:
        return []
    found: list[Problem] = []
    user = tuple(word for word in argv[1:] if word == "--user")
    for unit in words[1:]:
        ask = (argv[0], *user, "show", "--property=LoadState", "--value", "--", unit)
        try:
            state = await local.run(ask, within=_WITHIN, cwd=cwd)
        except (StepFailed, Unavailable) as e:
            found.append(Problem(f"unit {unit}", f"systemd cannot be queried: {e}", "is systemd running here?"))
        else:
            if state.strip() in ("not-found", "masked", "error", "bad-setting"):
                found.append(
                    Problem(f"unit {unit}", f"systemd reports it as {state.strip()}", "correct the name of the unit")
                )
    return found


async def _denied(local: Local, argv: tuple[str, ...], cwd: Path, *, fix: str) -> list[Problem]:
    try:
        await local.run(argv, within=_WITHIN, cwd=cwd)
    except (StepFailed, Unavailable) as e:
        return [Problem(f"program {argv[0]}", str(e), fix)]
    return []
