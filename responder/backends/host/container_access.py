"""Whether the containers that a command of `docker` names are running. Changes nothing."""

from __future__ import annotations

from pathlib import Path

from responder.backends.host.client import Local
from responder.backends.problems import Problem
from responder.errors import StepFailed, Unavailable

_WITHIN = 10.0
_WITH_A_VALUE = {
    "exec": ("-e", "--env", "--env-file", "-u", "--user", "-w", "--workdir", "--detach-keys", "--index"),
    "kill": ("-s", "--signal"),
    "restart": ("-s", "--signal", "-t", "--time", "--timeout"),
}
"""The subcommands whose first argument is a container or, for Compose, a service; their options with a value."""


async def container_problems(local: Local, argv: tuple[str, ...], cwd: Path) -> list[Problem]:
    """Returns a problem if the container does not run or cannot be queried; empty for other commands."""
    at = next((at for at, word in enumerate(argv) if word in _WITH_A_VALUE), None)
    if Path(argv[0]).name != "docker" or at is None:
        return []
    name = _first_argument(argv[at + 1 :], _WITH_A_VALUE[argv[at]])
    if not name:
        return []
    compose = "compose" in argv[:at]
    shown = ("ps", "--quiet", "--status", "running", name)
    ask = shown if compose else ("container", "inspect", "--format", "{{.State.Running}}", name)
    what = f"{'Compose service' if compose else 'container'} {name}"
    try:
        answer = await local.run((*argv[:at], *ask), within=_WITHIN, cwd=cwd)
    except (StepFailed, Unavailable) as e:
        return [Problem(what, str(e), f"correct the name in {' '.join(argv)}, or give this user access to the engine")]
    if answer.strip() in ("", "false"):
        return [Problem(what, "does not run", f"start it, or correct the name in {' '.join(argv)}")]
    return []


def _first_argument(words: tuple[str, ...], with_a_value: tuple[str, ...]) -> str:
    skip = False
    for word in words:
        if skip or word.startswith("-"):
            skip = word in with_a_value and not skip
        else:
            return word
    return ""
