"""The rows and columns that UPDATE and DELETE change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from responder.backends.postgres.ddl.effects import Effect
from responder.backends.postgres.ddl.tree_names import folded_name, name_of
from responder.backends.postgres.sql import quoted

if TYPE_CHECKING:
    from sqlglot import exp


def changes_one_table(tree: exp.Delete | exp.Update) -> bool:
    """Whether the statement changes rows of one table only, and its text tells which."""
    from sqlglot import exp

    table = tree.this
    others = sum(1 for _ in tree.find_all(exp.DML))
    return isinstance(table, exp.Table) and not table.args.get("joins") and others == 1


def row_change(tree: exp.Delete | exp.Update, sql: str) -> Effect:
    """The effect of the statement. With other tables, its condition selects the rows of the join."""
    from sqlglot import exp

    clauses = _clauses(sql)
    table, only = name_of(tree.this), bool(re.match(r"(?:DELETE\s+FROM|UPDATE)\s+ONLY\b", clauses["change"], re.I))
    where = clauses.get("where", "")
    alias = tree.this.args.get("alias")
    if alias or "with" in clauses or "others" in clauses:
        name = quoted(folded_name(alias.this)) if alias else quoted(table.name)
        sources = ", ".join(filter(None, (f"{'ONLY ' if only else ''}{table} AS {name}", clauses.get("others"))))
        condition = f" WHERE {where}" if where else ""
        query = f"{clauses.get('with', '')} SELECT {name}.tableoid, {name}.ctid FROM {sources}{condition}"
        where = f"(tableoid, ctid) IN ({query.strip()})"
    if isinstance(tree, exp.Delete):
        return Effect(does="deletes rows", on=table, where=where, only=only)
    columns = tuple(name for assignment in tree.expressions for name in _assigned(assignment.this))
    return Effect(does="updates rows", on=table, columns=columns, where=where)


def _assigned(target: object) -> list[str]:
    """The columns that one assignment of an UPDATE changes; a column for an element or a field of it."""
    from sqlglot import exp

    match target:
        case exp.Tuple():
            return [name for item in target.expressions for name in _assigned(item)]
        case exp.Paren() | exp.Bracket():
            return _assigned(target.this)
        case exp.Column():
            return [folded_name(target.parts[0])]
        case exp.Dot():
            return _assigned(target.this)
    return [folded_name(target)]


def _clauses(sql: str) -> dict[str, str]:
    """The original text of WITH, of the change, of the other tables and of the condition, without their keywords.

    Rendered again by the parser, they could select other rows.
    """
    starts = [*_starts(sql), ("end", len(sql), len(sql))]
    found = {}
    for (clause, start, text), (_, end, _) in pairwise(starts):
        found[clause] = sql[start if clause in ("with", "change") else text : end].strip()
    return found


def _starts(sql: str) -> Iterator[tuple[str, int, int]]:
    """Each clause outside of parentheses: its name, where its keyword starts and where that ends."""
    from sqlglot.dialects.postgres import Postgres
    from sqlglot.tokenizer_core import TokenType

    clauses = {"WITH": "with", "UPDATE": "change", "DELETE": "change", "WHERE": "where", "RETURNING": "returning"}
    depth, previous, current, verb = 0, "", "", ""
    for token in Postgres().tokenize(sql):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
        word = "" if token.token_type in (TokenType.IDENTIFIER, TokenType.STRING) else token.text.upper()
        clause = clauses.get(word, "")
        if current == "change" and word == ("USING" if verb == "DELETE" else "FROM") and previous != "DISTINCT":
            clause = "others"
        late = clause in ("with", "change") and current not in ("", "with")
        if depth == 0 and clause and not late and clause != current:
            verb = word if clause == "change" else verb
            current = clause
            yield clause, token.start, token.end + 1
        previous = word
