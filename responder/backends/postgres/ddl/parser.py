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
    SEARCH_PATH,
    STANDALONE,
    TRANSACTION_CONTROL,
    effect_by_keywords,
)
from responder.backends.postgres.ddl.objects import dropped_objects, moved_table
from responder.backends.postgres.ddl.row_changes import changes_one_table, row_change
from responder.backends.postgres.ddl.tree_names import folded_name, name_of
from responder.backends.postgres.sql import Name, folded, shortened, split_statements

if TYPE_CHECKING:
    from sqlglot import exp

_HARMLESS_FUNCTIONS = {
    *("gen_random_uuid", "nextval", "jsonb_build_object", "json_build_object", "jsonb_build_array", "to_jsonb"),
    *("to_json", "format", "md5", "clock_timestamp", "generate_series", "unnest", "row_number"),
}

_DROPS: dict[str, Does] = {"TABLE": "drops a table", "TYPE": "drops a type", "SEQUENCE": "drops a sequence"}

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

    if moved := moved_table(sql):
        table, schema = moved
        return Statement(sql=sql, effects=(Effect(does="renames", on=table, to=table.name, schema_name=schema),))
    if found := SEARCH_PATH.match(sql):
        path = re.sub(r"[\s'\"]", "", found["path"] or found["argument"] or "")
        return Statement(sql=sql, effects=(Effect(does="sets the search path", to=path),))
    standalone = bool(STANDALONE.match(sql))
    level = logging.getLogger("sqlglot").level
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # its warnings repeat the effect `unknown`
    try:
        tree = sqlglot.parse_one(re.sub(_RENAMED_COLUMN, r"\1 COLUMN ", sql), read="postgres")
    except SqlglotError as e:
        unknown = Effect(does="unknown", reason=f"cannot be parsed: {str(e).splitlines()[0]}")
        return Statement(sql=sql, effects=_unparsed(sql) or (unknown,), standalone=standalone)
    finally:
        logging.getLogger("sqlglot").setLevel(level)
    return Statement(sql=sql, effects=tuple(_effects(tree, sql)), standalone=standalone, index=_concurrent_index(tree))


def _unparsed(sql: str) -> tuple[Effect, ...]:
    """The effects of a statement that the parser rejects, such as DROP TYPE with several names. Empty: unknown."""
    dropped, exists = dropped_objects(sql), bool(re.match(r"DROP\s+\w+\s+IF\s+EXISTS\b", sql, re.I))
    if dropped and dropped[0] in _DROPS and not re.search(r"\bCASCADE\s*$", sql, re.I):
        return tuple(Effect(does=_DROPS[dropped[0]], on=name, if_exists=exists) for name in dropped[1])
    effect = effect_by_keywords(sql)
    return () if effect.does == "unknown" else (effect,)


def _concurrent_index(tree: object) -> str:
    """The index that CREATE INDEX CONCURRENTLY creates; empty for any other statement."""
    from sqlglot import exp

    if not isinstance(tree, exp.Create) or not tree.args.get("concurrently") or not isinstance(tree.this, exp.Index):
        return ""
    name, table = tree.this.this, tree.this.args.get("table")
    if not isinstance(name, exp.Identifier):
        return ""
    return str(Name(folded_name(name), name_of(table).schema if isinstance(table, exp.Table) else ""))


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
            return [Effect(does="deletes rows", on=name_of(t), cascade=cascade) for t in tree.expressions]
        case exp.Delete() | exp.Update() if changes_one_table(tree):
            return [row_change(tree, sql)]
        case exp.Insert() | exp.Comment() | exp.Select() if _changes_no_rows(tree):
            return [Effect(does="nothing lossy"), *_calls(tree, sql)]
        case exp.Create():
            return _of_create(tree, sql)
        case exp.Set() if LIMIT.match(sql):
            return [Effect(does="sets a limit")]
        case exp.Set() if HARMLESS_SETTING.match(sql):
            return [Effect(does="nothing lossy")]
    return [effect_by_keywords(sql)]


def _changes_no_rows(tree: exp.Expression) -> bool:
    """Whether the statement can change no existing row. Any function that a SELECT calls could do so."""
    from sqlglot import exp

    if isinstance(tree, exp.Select):
        return not tree.args.get("into") and not tree.find(exp.DML, exp.Func)
    return not tree.args.get("conflict") and not tree.args.get("with_")


def _of_create(tree: exp.Create, sql: str) -> list[Effect]:
    from sqlglot import exp

    if tree.kind == "TABLE":
        created = Effect(does="creates a table", on=name_of(tree.this))
        return [Effect(does="nothing lossy") if tree.args.get("exists") else created, *_calls(tree, sql)]
    if tree.kind == "INDEX" and isinstance(table := tree.this.args.get("table"), exp.Table):
        return [Effect(does="nothing lossy", on=name_of(table))]
    return [effect_by_keywords(sql)]


def _calls(tree: exp.Expression, sql: str) -> list[Effect]:
    """An unknown effect if a function is called that may change data."""
    from sqlglot import exp

    names = sorted({folded(call.name) for call in tree.find_all(exp.Anonymous)} - _HARMLESS_FUNCTIONS)
    if not names:
        return []
    return [Effect(does="unknown", reason=f"effect of the function {', '.join(names)} unknown: {shortened(sql)}")]


def _of_drop(tree: exp.Drop, sql: str) -> list[Effect]:
    kind = str(tree.args.get("kind") or "").upper()
    cascade, exists = bool(tree.args.get("cascade")), bool(tree.args.get("exists"))
    if kind in _DROPS:
        return [
            Effect(does=_DROPS[kind], on=name_of(table), cascade=cascade, if_exists=exists)
            for table in tree.args["tables"]
        ]
    if kind == "INDEX" and not cascade:
        return [Effect(does="nothing lossy", on=name_of(table)) for table in tree.args["tables"]]
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
    return not (isinstance(inner, exp.Column) and not inner.table and folded_name(inner) == folded_name(action.this))


def _of_alter(tree: exp.Alter, sql: str) -> list[Effect]:
    from sqlglot import exp

    if str(tree.args.get("kind") or "").upper() != "TABLE":
        return [effect_by_keywords(sql)]
    table = name_of(tree.this)
    found: list[Effect] = []
    if word := _unparsed_word(tree, sql):
        return [Effect(does="unknown", reason=f"keyword {word} not understood: {shortened(sql)}")]
    for action in tree.args.get("actions") or ():
        match action:
            case exp.Drop() if str(action.args.get("kind")).upper() == "COLUMN":
                options = {"cascade": bool(action.args.get("cascade")), "if_exists": bool(action.args.get("exists"))}
                found += [
                    Effect(does="drops columns", on=table, columns=(folded_name(column),), **options)
                    for column in action.args["tables"]
                ]
            case exp.AlterColumn() if action.args.get("dtype"):
                options = {"to": action.args["dtype"].sql("postgres"), "using": _computes_values(action)}
                found.append(Effect(does="changes a type", on=table, columns=(folded_name(action.this),), **options))
            case exp.AlterRename():
                found.append(Effect(does="renames", on=table, to=folded_name(action.this)))
            case exp.RenameColumn():
                column = folded_name(action.this)
                found.append(Effect(does="renames", on=table, columns=(column,), to=folded_name(action.args["to"])))
            case exp.ColumnDef() if not action.args.get("exists"):
                found.append(Effect(does="adds a column", on=table, columns=(folded_name(action.this),)))
            case exp.Drop() if str(action.args.get("kind")).upper() == "CONSTRAINT" and not action.args.get("cascade"):
                found.append(Effect(does="nothing lossy", on=table))
            case exp.AddConstraint():
                found.append(Effect(does="adds a constraint", on=table))
            case exp.AlterColumn() | exp.ColumnDef():
                found.append(Effect(does="nothing lossy", on=table))
            case _:
                found.append(effect_by_keywords(sql))
    return found or [effect_by_keywords(sql)]
