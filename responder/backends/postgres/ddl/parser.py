"""Parses SQL statements and returns their effects. What the parser does not understand is unknown, never harmless."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from responder.backends.postgres.ddl.effects import Does, Effect, Statement
from responder.backends.postgres.ddl.keywords import (
    HARMLESS_SETTING,
    LIMIT,
    NOT_LOSSY,
    STANDALONE,
    TRANSACTION_CONTROL,
    effect_by_keywords,
)
from responder.backends.postgres.sql import Name, folded, shortened, split_statements

if TYPE_CHECKING:
    from sqlglot import exp

_HARMLESS_FUNCTIONS = {
    *("gen_random_uuid", "nextval", "jsonb_build_object", "json_build_object", "jsonb_build_array", "to_jsonb"),
    *("to_json", "format", "md5", "clock_timestamp", "generate_series", "unnest", "row_number"),
}

_RENAMED_COLUMN = re.compile(r"^(ALTER\s+TABLE\s[^'(]*?\sRENAME)\s+(?!TO\b|COLUMN\b|CONSTRAINT\b)(?=\S+\s+TO\s)", re.I)
"""The short form of RENAME COLUMN. The parser mistakes it for renaming the table."""


def parse_script(script: str) -> tuple[Statement, ...]:
    """The statements of a script with their effects, without BEGIN and COMMIT.

    Raises ValueError if the script cannot be split into statements.
    """
    found = (parse_statement(sql) for sql in split_statements(script))
    return tuple(s for s in found if not any(effect.does == "begins or commits" for effect in s.effects))


def parse_statement(sql: str) -> Statement:
    """One statement with its effects."""
    import sqlglot
    from sqlglot.errors import SqlglotError

    standalone = bool(STANDALONE.match(sql))
    level = logging.getLogger("sqlglot").level
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # its warnings repeat the effect `unknown`
    try:
        tree = sqlglot.parse_one(re.sub(_RENAMED_COLUMN, r"\1 COLUMN ", sql), read="postgres")
    except SqlglotError as e:
        unknown = Effect(does="unknown", reason=f"cannot be parsed: {str(e).splitlines()[0]}")
        return Statement(sql=sql, effects=(unknown,), standalone=standalone)
    finally:
        logging.getLogger("sqlglot").setLevel(level)
    return Statement(sql=sql, effects=tuple(_effects(tree, sql)), standalone=standalone, index=_concurrent_index(tree))


def _concurrent_index(tree: object) -> str:
    """The index that CREATE INDEX CONCURRENTLY creates; empty for any other statement."""
    from sqlglot import exp

    if not isinstance(tree, exp.Create) or not tree.args.get("concurrently") or not isinstance(tree.this, exp.Index):
        return ""
    name, table = tree.this.this, tree.this.args.get("table")
    if not isinstance(name, exp.Identifier):
        return ""
    return str(Name(_folded(name), _name(table).schema if isinstance(table, exp.Table) else ""))


def _folded(identifier: object) -> str:
    from sqlglot import exp

    if isinstance(identifier, exp.Identifier):
        return str(identifier.this) if identifier.args.get("quoted") else folded(str(identifier.this))
    if isinstance(identifier, exp.Column | exp.Table | exp.ColumnDef):
        return _folded(identifier.this)
    return folded(str(identifier))


def _name(table: object) -> Name:
    from sqlglot import exp

    if isinstance(table, exp.Schema):
        table = table.this
    if isinstance(table, exp.Table):
        return Name(_folded(table.this), _folded(table.args["db"]) if table.args.get("db") else "")
    if isinstance(table, exp.DataType):  # DROP TYPE mood
        parts = [part.strip() for part in table.sql("postgres").split(".")]
        names = [part[1:-1] if part.startswith('"') else folded(part) for part in parts]
        return Name(names[-1], names[0] if len(names) > 1 else "")
    return Name(_folded(table))


def _effects(tree: object, sql: str) -> list[Effect]:
    from sqlglot import exp

    if TRANSACTION_CONTROL.match(sql):
        return [Effect(does="begins or commits")]
    match tree:
        case exp.Transaction() | exp.Commit() | exp.Rollback():
            return [Effect(does="begins or commits")]
        case exp.Alter():
            return _of_alter(tree, sql)
        case exp.Drop():
            return _of_drop(tree, sql)
        case exp.TruncateTable():
            cascade = bool(re.search(r"\bCASCADE\b", sql, re.I))
            return [Effect(does="deletes rows", on=_name(t), cascade=cascade) for t in tree.expressions]
        case exp.Delete() | exp.Update() if _is_plain(tree):
            return [_of_rows(tree, sql)]
        case exp.Insert() if not tree.args.get("conflict") and not tree.args.get("with_"):
            return [Effect(does="nothing lossy"), *_calls(tree, sql)]
        case exp.Create():
            return _of_create(tree, sql)
        case exp.Comment():
            return [Effect(does="nothing lossy"), *_calls(tree, sql)]
        case exp.Set() if LIMIT.match(sql):
            return [Effect(does="sets a limit")]
        case exp.Set() if HARMLESS_SETTING.match(sql):
            return [Effect(does="nothing lossy")]
    return [effect_by_keywords(sql)]


def _of_create(tree: exp.Create, sql: str) -> list[Effect]:
    from sqlglot import exp

    if tree.kind == "TABLE":
        created = Effect(does="creates a table", on=_name(tree.this))
        return [Effect(does="nothing lossy") if tree.args.get("exists") else created, *_calls(tree, sql)]
    if tree.kind == "INDEX" and isinstance(table := tree.this.args.get("table"), exp.Table):
        return [Effect(does="nothing lossy", on=_name(table))]
    return [effect_by_keywords(sql)]


def _of_rows(tree: exp.Delete | exp.Update, sql: str) -> Effect:
    from sqlglot import exp

    where = _where(sql) if tree.args.get("where") else ""
    if isinstance(tree, exp.Delete):
        only = bool(re.match(r"DELETE\s+FROM\s+ONLY\b", sql, re.I))
        return Effect(does="deletes rows", on=_name(tree.this), where=where, only=only)
    columns = tuple(name for assignment in tree.expressions for name in _assigned(assignment.this))
    return Effect(does="updates rows", on=_name(tree.this), columns=columns, where=where)


def _calls(tree: exp.Expression, sql: str) -> list[Effect]:
    """An unknown effect if a function is called that may change data."""
    from sqlglot import exp

    names = sorted({folded(call.name) for call in tree.find_all(exp.Anonymous)} - _HARMLESS_FUNCTIONS)
    if not names:
        return []
    return [Effect(does="unknown", reason=f"effect of the function {', '.join(names)} unknown: {shortened(sql)}")]


def _assigned(target: object) -> list[str]:
    """The columns that one assignment of an UPDATE changes; a column for an element or a field of it."""
    from sqlglot import exp

    match target:
        case exp.Tuple():
            return [name for item in target.expressions for name in _assigned(item)]
        case exp.Paren() | exp.Bracket():
            return _assigned(target.this)
        case exp.Column():
            return [_folded(target.parts[0])]
        case exp.Dot():
            return _assigned(target.this)
    return [_folded(target)]


def _is_plain(tree: exp.Delete | exp.Update) -> bool:
    """Whether the WHERE clause alone selects the rows."""
    from sqlglot import exp

    plain = not any(tree.args.get(key) for key in ("using", "from_", "from", "with_", "with", "returning"))
    table = tree.this
    return plain and isinstance(table, exp.Table) and not table.args.get("joins") and not table.args.get("alias")


def _where(sql: str) -> str:
    """The original text of the condition: rendered again it could select other rows."""
    from sqlglot.dialects.postgres import Postgres
    from sqlglot.tokenizer_core import TokenType

    depth = 0
    for token in Postgres().tokenize(sql):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
        if depth == 0 and token.token_type == TokenType.WHERE:
            return sql[token.end + 1 :].strip()
    raise ValueError(f"{shortened(sql)}: no WHERE clause found")


def _of_drop(tree: exp.Drop, sql: str) -> list[Effect]:
    kinds: dict[str, Does] = {"TABLE": "drops a table", "TYPE": "drops a type", "SEQUENCE": "drops a sequence"}
    kind = str(tree.args.get("kind") or "").upper()
    cascade, exists = bool(tree.args.get("cascade")), bool(tree.args.get("exists"))
    if kind in kinds:
        return [
            Effect(does=kinds[kind], on=_name(table), cascade=cascade, if_exists=exists)
            for table in tree.args["tables"]
        ]
    if kind == "INDEX" and not cascade:
        return [Effect(does="nothing lossy", on=_name(table)) for table in tree.args["tables"]]
    if kind in ("VIEW", "TRIGGER", "FUNCTION", "PROCEDURE") and not cascade:
        return [Effect(does="nothing lossy")]
    if not cascade and NOT_LOSSY.match(sql):
        return [Effect(does="nothing lossy")]
    return [Effect(does="unknown", reason=f"objects that this drops are unknown: {shortened(sql)}")]


def _unparsed_word(tree: exp.Alter, sql: str) -> str:
    """A word of the statement that the parsed tree lacks: the parser misunderstood it. Empty if none."""
    from sqlglot import exp

    if any(isinstance(a, exp.AlterColumn | exp.ColumnDef | exp.AddConstraint) for a in tree.args.get("actions") or ()):
        return ""  # types have synonyms
    rendered = set(re.findall(r"\w+", tree.sql("postgres").lower())) | {"column", "restrict", "only"}
    return next((word for word in re.findall(r"\w+", sql.lower()) if word not in rendered), "")


def _computes_values(action: exp.AlterColumn) -> bool:
    """Whether USING does more than cast the column to the new type."""
    from sqlglot import exp

    using = action.args.get("using")
    if not isinstance(using, exp.Expression):
        return bool(using)
    inner = using.unnest()
    if isinstance(inner, exp.Cast) and inner.to == action.args["dtype"]:
        inner = inner.this.unnest()
    return not (isinstance(inner, exp.Column) and not inner.table and _folded(inner) == _folded(action.this))


def _of_alter(tree: exp.Alter, sql: str) -> list[Effect]:
    from sqlglot import exp

    if str(tree.args.get("kind") or "").upper() != "TABLE":
        return [effect_by_keywords(sql)]
    table = _name(tree.this)
    found: list[Effect] = []
    if word := _unparsed_word(tree, sql):
        return [Effect(does="unknown", reason=f"keyword {word} not understood: {shortened(sql)}")]
    for action in tree.args.get("actions") or ():
        match action:
            case exp.Drop() if str(action.args.get("kind")).upper() == "COLUMN":
                options = {"cascade": bool(action.args.get("cascade")), "if_exists": bool(action.args.get("exists"))}
                found += [
                    Effect(does="drops columns", on=table, columns=(_folded(column),), **options)
                    for column in action.args["tables"]
                ]
            case exp.AlterColumn() if action.args.get("dtype"):
                options = {"to": action.args["dtype"].sql("postgres"), "using": _computes_values(action)}
                found.append(Effect(does="changes a type", on=table, columns=(_folded(action.this),), **options))
            case exp.AlterRename():
                found.append(Effect(does="renames", on=table, to=_folded(action.this)))
            case exp.RenameColumn():
                column = _folded(action.this)
                found.append(Effect(does="renames", on=table, columns=(column,), to=_folded(action.args["to"])))
            case exp.ColumnDef() if not action.args.get("exists"):
                found.append(Effect(does="adds a column", on=table, columns=(_folded(action.this),)))
            case exp.Drop() if str(action.args.get("kind")).upper() == "CONSTRAINT" and not action.args.get("cascade"):
                found.append(Effect(does="nothing lossy", on=table))
            case exp.AddConstraint():
                found.append(Effect(does="adds a constraint", on=table))
            case exp.AlterColumn() | exp.ColumnDef():
                found.append(Effect(does="nothing lossy", on=table))
            case _:
                found.append(effect_by_keywords(sql))
    return found or [effect_by_keywords(sql)]
