"""A service of release directories on this host."""

from __future__ import annotations

import shlex
from pathlib import Path

from responder.app.setup.found import FoundService
from responder.errors import Invalid


def host_service(name: str, root: Path, restart: str) -> FoundService:
    """The service whose link `current` in `root` points to a release. Raises Invalid."""
    if not root.is_absolute():
        raise Invalid(f"--root {root}: expected an absolute path, such as /srv/{name}")
    try:
        command = shlex.split(restart)
    except ValueError as e:
        raise Invalid(f"--restart {restart}: {e}") from None
    if not command:
        raise Invalid("--restart: expected a command, such as 'systemctl restart backend'")
    return FoundService(name, {"strategy": "immediate", "release": {"root": str(root), "restart": command}})


def unit_of(restart: list[str]) -> str:
    """The systemd unit that a command restarts; empty if it is another command."""
    match restart:
        case ["systemctl", "restart", unit]:
            return unit if "." in unit else f"{unit}.service"
    return ""
