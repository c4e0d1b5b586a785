"""The program `exporters`."""

from __future__ import annotations

from collections.abc import Sequence

from exporters.errors import ConfigError
from foundation.commands.failure import WRONG, Failure
from foundation.commands.program import Program

_COMMANDS = {
    "exporters.commands": {
        "serve": "serve probes, resources and service discovery",
        "check": "check the configuration and list its checks",
        "probe": "run one check now; exit 1 if it fails",
        "completion": "print the script that completes commands in a shell",
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    return PROGRAM.run(argv)


def _failures_of(error: Exception) -> tuple[Sequence[Failure], int] | None:
    if isinstance(error, ConfigError):
        return [Failure(found.message, found.where, found.hint) for found in error.findings], WRONG
    return None


PROGRAM = Program(
    "exporters",
    "Exports to Prometheus whether services answer and what resources the host has left.",
    _COMMANDS,
    _failures_of,
)
