"""What each statement of a migration would do, read by PostgreSQL's grammar; what is not understood is unknown."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from responder.backends.postgres.ddl_effects import Does, Effect, Statement
from responder.backends.postgres.sql import Name, folded, shortened, split

if TYPE_CHECKING:
    from sqlglot import exp


def read(script: str) -> tuple[Statement, ...]:
    """Every statement of a script with what it does, BEGIN and COMMIT left out. Raises ValueError."""
    found = (statement(sql) for sql in split(script))
    return tuple(s for s in found if not any(effect.does == "begins or commits" for effect in s.effects))


_ALONE = re.compile(
    r"(VACUUM|REINDEX\b.*\bCONCURRENTLY|ALTER\s+SYSTEM|(CREATE|DROP)\s+(DATABASE|TABLESPACE)"
    r"|CREATE\s+(UNIQUE\s+)?INDEX\s+CONCURRENTLY|DROP\s+INDEX\s+CONCURRENTLY"
    r"|ALTER\s+TABLE\b.*\bDETACH\s+PARTITION\b.*\bCONCURRENTLY|REFRESH\s+MATERIALIZED\s+VIEW\s+CONCURRENTLY)\b",
    re.I | re.S,
)
_BEGINS = re.compile(r"(ABORT|START\s+TRANSACTION|PREPARE\s+TRANSACTION)\b", re.I)
"""What the parser does not know for what it is, and what would end or split a transaction of ours."""

_SETS = r"SET\s+(SESSION\s+|LOCAL\s+)?"
_LIMIT = re.compile(rf"{_SETS}(lock_timeout|statement_timeout|idle_in_transaction_session_timeout)\b", re.I)
_HARMLESS_SETTING = re.compile(
    rf"{_SETS}((client_encoding|client_min_messages|check_function_bodies|xmloption|work_mem|maintenance_work_mem"
    r"|default_tablespace|default_table_access_method|constraints|transaction)\b"
    r"|standard_conforming_strings\s*(=|\bTO\b)\s*'?on\b|row_security\s*(=|\bTO\b)\s*'?off\b)",
    re.I,
)
_HARMLESS_CALLS = {
    *("gen_random_uuid", "nextval", "jsonb_build_object", "json_build_object", "jsonb_build_array", "to_jsonb"),
    *("to_json", "format", "md5", "clock_timestamp", "generate_series", "unnest", "row_number"),
}

_RENAMED_COLUMN = re.compile(r"^(ALTER\s+TABLE\s[^'(]*?\sRENAME)\s+(?!TO\b|COLUMN\b|CONSTRAINT\b)(?=\S+\s+TO\s)", re.I)
"""The short form of RENAME COLUMN, which the parser takes for the table's own."""

_NOT_LOSSY = re.compile(
    r"(COMMENT\s+ON|GRANT|REVOKE|REINDEX|VACUUM|ANALYZE|REFRESH\s+MATERIALIZED\s+VIEW|LOCK\b"
    r"|CREATE\s+(OR\s+REPLACE\s+)?(UNIQUE\s+INDEX|INDEX|FUNCTION|PROCEDURE|CONSTRAINT\s+TRIGGER|TRIGGER|POLICY|RULE|VIEW"
    r"|MATERIALIZED\s+VIEW|SEQUENCE|TYPE|DOMAIN|EXTENSION|SCHEMA|STATISTICS|AGGREGATE|OPERATOR|CAST|COLLATION|PUBLICATION)"
    r"|DROP\s+(FUNCTION|PROCEDURE|TRIGGER|POLICY|RULE|VIEW|INDEX|STATISTICS|AGGREGATE|OPERATOR|CAST|PUBLICATION)"
    r"|ALTER\s+TYPE\s+\S+\s+(ADD|RENAME)\s+VALUE|ALTER\s+(INDEX|VIEW|FUNCTION|SEQUENCE|POLICY|TRIGGER|DOMAIN|PUBLICATION)"
    r"|ALTER\s+TABLE\s+(ONLY\s+)?\S+\s+(ENABLE|DISABLE|VALIDATE|OWNER|REPLICA|CLUSTER|FORCE|NO\s+FORCE|ALTER\s+CONSTRAINT)"
    r"|SET\s+CONSTRAINTS)\b",
    re.I,
)


def statement(sql: str) -> Statement:
    """One statement and what it does."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    alone = bool(_ALONE.match(sql))
    level = logging.getLogger("sqlglot").level
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # it warns of statements that it does not know; we say so
    try:
        tree = sqlglot.parse_one(re.sub(_RENAMED_COLUMN, r"\1 COLUMN ", sql), read="postgres")
    except SqlglotError as e:
        problem = str(e).splitlines()[0]
        return Statement(
            sql=sql, effects=(Effect(does="unknown", why=f"it is not understood: {problem}"),), alone=alone
        )
    finally:
        logging.getLogger("sqlglot").setLevel(level)
    index = ""
    if isinstance(tree, exp.Create) and tree.args.get("concurrently"):
        made = tree.this.this if isinstance(tree.this, exp.Index) else None
        table = tree.this.args.get("table") if isinstance(tree.this, exp.Index) else None
        if isinstance(made, exp.Identifier):
            schema = _name(table).schema if isinstance(table, exp.Table) else ""
            index = str(Name(_folded(made), schema))
    return Statement(sql=sql, effects=tuple(_effects(tree, sql)), alone=alone, index=index)


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

    if _BEGINS.match(sql):
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
            where = _where(sql) if tree.args.get("where") else ""
            if isinstance(tree, exp.Delete):
                only = bool(re.match(r"DELETE\s+FROM\s+ONLY\b", sql, re.I))
                return [Effect(does="deletes rows", on=_name(tree.this), where=where, only=only)]
            columns = tuple(name for assignment in tree.expressions for name in _assigned(assignment.this))
            return [Effect(does="updates rows", on=_name(tree.this), columns=columns, where=where)]
        case exp.Insert() if not tree.args.get("conflict") and not tree.args.get("with_"):
            return [Effect(does="nothing lossy"), *_calls(tree, sql)]
        case exp.Create() if tree.kind == "TABLE" and not tree.args.get("exists"):
            return [Effect(does="creates a table", on=_name(tree.this)), *_calls(tree, sql)]
        case exp.Create(kind="INDEX") if isinstance(table := tree.this.args.get("table"), exp.Table):
            return [Effect(does="nothing lossy", on=_name(table))]
        case exp.Comment() | exp.Create(kind="TABLE"):
            return [Effect(does="nothing lossy"), *_calls(tree, sql)]
        case exp.Set() if _LIMIT.match(sql):
            return [Effect(does="sets a limit")]
        case exp.Set() if _HARMLESS_SETTING.match(sql):
            return [Effect(does="nothing lossy")]
    return [_by_its_words(sql)]


def _by_its_words(sql: str) -> Effect:
    if _NOT_LOSSY.match(sql) and not _does_more(sql):
        return Effect(does="nothing lossy", on=_altered(sql))
    return Effect(does="unknown", why=f"it is not known what this loses: {shortened(sql)}")


def _altered(sql: str) -> Name | None:
    """The table of an ALTER TABLE that is only known by its words, where its name is a simple one."""
    found = re.match(r"ALTER\s+TABLE\s+(?:ONLY\s+)?(?:([a-z_]\w*)\.)?([a-z_]\w*)\s", sql, re.I)
    return Name(folded(found[2]), folded(found[1] or "")) if found else None


def _does_more(sql: str) -> bool:
    """Whether something follows that the first words do not tell of: another action, or all that depends on it."""
    from sqlglot.dialects.postgres import Postgres
    from sqlglot.tokenizer_core import TokenType

    tokens = Postgres().tokenize(sql)
    first = tokens[0].text.upper()
    several = first == "ALTER" and tokens[1].text.upper() == "TABLE"
    return any(
        (several and token.token_type == TokenType.COMMA) or (first == "DROP" and token.text.upper() == "CASCADE")
        for token in tokens
    )


def _calls(tree: exp.Expression, sql: str) -> list[Effect]:
    """Functions that are not known to be harmless: they may delete whatever they like."""
    from sqlglot import exp

    names = sorted({folded(call.name) for call in tree.find_all(exp.Anonymous)} - _HARMLESS_CALLS)
    if not names:
        return []
    return [Effect(does="unknown", why=f"it is not known what {', '.join(names)} does: {shortened(sql)}")]


def _assigned(target: object) -> list[str]:
    """The columns that one assignment of an UPDATE changes, also where it is only an element or a field of them."""
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
    """Whether the rows that are meant can be told by the WHERE alone."""
    from sqlglot import exp

    plain = not any(tree.args.get(key) for key in ("using", "from_", "from", "with_", "with", "returning"))
    table = tree.this
    return plain and isinstance(table, exp.Table) and not table.args.get("joins") and not table.args.get("alias")


def _where(sql: str) -> str:
    """The condition as it was written: written anew it might mean other rows."""
    from sqlglot.dialects.postgres import Postgres
    from sqlglot.tokenizer_core import TokenType

    depth = 0
    for token in Postgres().tokenize(sql):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
        if depth == 0 and token.token_type == TokenType.WHERE:
            return sql[token.end + 1 :].strip()
    raise ValueError(f"where is the condition of {shortened(sql)}")


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
    if not cascade and _NOT_LOSSY.match(sql):
        return [Effect(does="nothing lossy")]
    return [Effect(does="unknown", why=f"it is not known what this takes with it: {shortened(sql)}")]


def _lacking(tree: exp.Alter, sql: str) -> str:
    """A word of the statement that the parser has lost: then it has misunderstood it."""
    from sqlglot import exp

    if any(isinstance(a, exp.AlterColumn | exp.ColumnDef | exp.AddConstraint) for a in tree.args.get("actions") or ()):
        return ""  # types have many names
    rendered = set(re.findall(r"\w+", tree.sql("postgres").lower())) | {"column", "restrict", "only"}
    return next((word for word in re.findall(r"\w+", sql.lower()) if word not in rendered), "")


def _makes_anew(action: exp.AlterColumn) -> bool:
    """Whether the values come from an expression that is more than a cast to the new type."""
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
        return [_by_its_words(sql)]
    table = _name(tree.this)
    found: list[Effect] = []
    if lacking := _lacking(tree, sql):
        return [Effect(does="unknown", why=f"it is not understood ({lacking}): {shortened(sql)}")]
    for action in tree.args.get("actions") or ():
        match action:
            case exp.Drop() if str(action.args.get("kind")).upper() == "COLUMN":
                options = {"cascade": bool(action.args.get("cascade")), "if_exists": bool(action.args.get("exists"))}
                found += [
                    Effect(does="drops columns", on=table, columns=(_folded(column),), **options)
                    for column in action.args["tables"]
                ]
            case exp.AlterColumn() if action.args.get("dtype"):
                options = {"to": action.args["dtype"].sql("postgres"), "using": _makes_anew(action)}
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
            case exp.AddConstraint() | exp.AlterColumn() | exp.ColumnDef():
                found.append(Effect(does="nothing lossy", on=table))
            case _:
                found.append(_by_its_words(sql))
    return found or [_by_its_words(sql)]
