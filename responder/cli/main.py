"""The program `responder`."""

from __future__ import annotations

from collections.abc import Sequence

from foundation.commands.failure import WRONG, Failure
from foundation.commands.program import Program
from responder.errors import ConfigError, ResponderError

_COMMANDS = {
    "responder.cli.configuration": {
        "init": "write a configuration that works, from a few answers",
        "serve": "run the responder",
        "check": "validate the configuration",
        "notify": "send a test notification",
        "assets": "write alert rules, dashboards, systemd units, CI helpers and documentation to a directory",
        "completion": "print the script that completes commands in a shell",
    },
    "responder.cli.rollbacks": {
        "rollback": "roll back a service",
        "watch": "follow a rollback; exit 0 if it succeeds, otherwise 1",
        "approve": "approve a plan that awaits approval",
        "stop": "stop a rollback at its next safe point, or all automation",
        "close": "close a stuck rollback, or release the kill switch",
        "history": "list past rollbacks, or show one rollback with its events",
    },
    "responder.cli.reports": {
        "status": "show the current state; exit 1 if a person is needed",
        "explain": "explain the last decisions, or evaluate a webhook body",
        "report": "report health, warnings and recommendations; with an ID, draft the post-mortem of a rollback",
    },
    "responder.cli.versions": {
        "deployed": "report a deployment",
        "mark": "set the status of a version",
        "versions": "list the versions of a service",
        "clients": "show or change the document that apps poll",
    },
    "responder.cli.evidence": {
        "evidence": "show the evidence of a rollback, or logs that a decision preserved",
    },
    "responder.cli.snapshots": {
        "snapshots": "list, verify, restore, prune or take database snapshots",
    },
    "responder.cli.databases": {
        "schema": "print the fingerprint of a schema, to report with a deployment",
        "preserved": "list or restore data that rollbacks preserved",
    },
}
"""Each command and its summary, by the module that declares it. The module is imported when the command is used."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    return PROGRAM.run(argv)


def _failures_of(error: Exception) -> tuple[Sequence[Failure], int] | None:
    if isinstance(error, ConfigError):
        return [Failure(found.message, found.where, found.hint) for found in error.findings], WRONG
    if isinstance(error, ResponderError):
        failure = Failure(str(error), getattr(error, "where", ""), getattr(error, "hint", ""))
        return [failure], getattr(error, "exit_code", WRONG)
    return None


PROGRAM = Program(
    "responder",
    "Rolls services back to their last known-good version when Prometheus alerts.",
    _COMMANDS,
    _failures_of,
)
