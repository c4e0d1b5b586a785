"""Names in the tree of a parsed statement, as PostgreSQL reads them."""

from __future__ import annotations

from responder.backends.postgres.sql import Name, folded


def folded_name(identifier: object) -> str:
    """The name of an identifier, a column or a table without its schema, folded if it is not quoted."""
    from sqlglot import exp

    if isinstance(identifier, exp.Identifier):
        return str(identifier.this) if identifier.args.get("quoted") else folded(str(identifier.this))
    if isinstance(identifier, exp.Column | exp.Table | exp.ColumnDef):
        return folded_name(identifier.this)
    return folded(str(identifier))


def name_of(table: object) -> Name:
    """The name of a table or type with its schema."""
    from sqlglot import exp

    if isinstance(table, exp.Schema):
        table = table.this
    if isinstance(table, exp.Table):
        return Name(folded_name(table.this), folded_name(table.args["db"]) if table.args.get("db") else "")
    if isinstance(table, exp.DataType):  # DROP TYPE mood
        parts = [part.strip() for part in table.sql("postgres").split(".")]
        names = [part[1:-1] if part.startswith('"') else folded(part) for part in parts]
        return Name(names[-1], names[0] if len(names) > 1 else "")
    return Name(folded_name(table))
