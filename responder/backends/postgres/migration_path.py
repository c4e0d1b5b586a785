"""A planned migration from one revision to another: the statements or the command that it runs."""

from __future__ import annotations

from foundation.models import StrictModel
from responder.backends.postgres.script_runner import ScriptPart
from responder.backends.postgres.sql import repeatable


class Command(StrictModel):
    """One statement of a migration."""

    sql: str
    standalone: bool = False  # cannot run in a transaction
    index: str = ""  # the index that it creates concurrently
    preserves: bool = False  # added by the responder: saves what a later statement destroys


class MigrationPath(StrictModel):
    """The migration from one revision to another, by statements or by a command of the migration tool.

    With both, the statements run after the command: they restore data.
    """

    from_revision: str
    to_revision: str
    commands: tuple[Command, ...] = ()
    argv: tuple[str, ...] = ()
    directory: str = ""
    destroys: str = ""  # what the command of a tool destroys, and where a copy is
    expected_fingerprint: str = ""  # of the schema that it was planned for

    @property
    def name(self) -> str:
        return f"{self.from_revision} → {self.to_revision}"

    @property
    def one_transaction(self) -> bool:
        """Whether all its statements run in one transaction."""
        return bool(self.commands) and not self.argv and not any(command.standalone for command in self.commands)

    @property
    def parts(self) -> tuple[ScriptPart, ...]:
        """The statements in order: each standalone one by itself, those in between as one transaction."""
        parts: list[ScriptPart] = []
        transaction: list[str] = []
        for command in self.commands:
            if not command.standalone:
                transaction.append(command.sql)
                continue
            if transaction:
                parts.append(ScriptPart(statements=tuple(transaction)))
                transaction = []
            sql = repeatable(command.sql)
            parts.append(ScriptPart(statements=(sql,), standalone=True, builds_index=command.index))
        return (*parts, ScriptPart(statements=tuple(transaction))) if transaction else tuple(parts)

    def before(self, following: MigrationPath) -> MigrationPath:
        """This path and the following one as a single path."""
        commands = (*self.commands, *following.commands)
        return self.model_copy(update={"to_revision": following.to_revision, "commands": commands})
