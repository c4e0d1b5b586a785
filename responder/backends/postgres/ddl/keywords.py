"""Classifies a statement by its keywords, where the SQL parser does not understand it."""

from __future__ import annotations

import re

from responder.backends.postgres.ddl.effects import Effect
from responder.backends.postgres.sql import Name, folded, shortened

STANDALONE = re.compile(
    r"(VACUUM|REINDEX\b.*\bCONCURRENTLY|ALTER\s+SYSTEM|(CREATE|DROP)\s+(DATABASE|TABLESPACE)"
    r"|CREATE\s+(UNIQUE\s+)?INDEX\s+CONCURRENTLY|DROP\s+INDEX\s+CONCURRENTLY"
    r"|ALTER\s+TABLE\b.*\bDETACH\s+PARTITION\b.*\bCONCURRENTLY|REFRESH\s+MATERIALIZED\s+VIEW\s+CONCURRENTLY)\b",
    re.I | re.S,
)
"""Statements that PostgreSQL refuses inside a transaction."""

TRANSACTION_CONTROL = re.compile(r"(ABORT|START\s+TRANSACTION|PREPARE\s+TRANSACTION)\b", re.I)
"""Transaction control that the SQL parser does not recognize. It would end or split the responder's transaction."""

_SET = r"SET\s+(SESSION\s+|LOCAL\s+)?"
LIMIT = re.compile(rf"{_SET}(lock_timeout|statement_timeout|idle_in_transaction_session_timeout)\b", re.I)
HARMLESS_SETTING = re.compile(
    rf"{_SET}((client_encoding|client_min_messages|check_function_bodies|xmloption|work_mem|maintenance_work_mem"
    r"|default_tablespace|default_table_access_method|constraints|transaction)\b"
    r"|standard_conforming_strings\s*(=|\bTO\b)\s*'?on\b|row_security\s*(=|\bTO\b)\s*'?off\b)",
    re.I,
)

SEARCH_PATH = re.compile(
    rf"{_SET}search_path\s*(?:=|\bTO\b)\s*(?P<path>.*)$|SELECT\s+(pg_catalog\.)?set_config\(\s*'search_path'\s*,\s*"
    r"'(?P<argument>[^']*)'[^()]*\)$",
    re.I | re.S,
)
"""Statements that decide in which schemas the names without one are."""

NOT_LOSSY = re.compile(
    r"(COMMENT\s+ON|GRANT|REVOKE|REINDEX|VACUUM|ANALYZE|REFRESH\s+MATERIALIZED\s+VIEW|LOCK\b"
    r"|CREATE\s+(OR\s+REPLACE\s+)?(UNIQUE\s+INDEX|INDEX|FUNCTION|PROCEDURE|CONSTRAINT\s+TRIGGER|TRIGGER|POLICY|RULE|VIEW"
    r"|MATERIALIZED\s+VIEW|SEQUENCE|TYPE|DOMAIN|EXTENSION|SCHEMA|STATISTICS|AGGREGATE|OPERATOR|CAST|COLLATION|PUBLICATION)"
    r"|DROP\s+(FUNCTION|PROCEDURE|TRIGGER|POLICY|RULE|VIEW|INDEX|STATISTICS|AGGREGATE|OPERATOR|CAST|PUBLICATION)"
    r"|ALTER\s+TYPE\s+\S+\s+((ADD|RENAME)\s+VALUE|RENAME\s+TO|OWNER)|ALTER\s+(INDEX|VIEW|FUNCTION|SEQUENCE|POLICY|TRIGGER|DOMAIN|PUBLICATION)"
    r"|ALTER\s+TABLE\s+(ONLY\s+)?\S+\s+(ENABLE|DISABLE|VALIDATE|OWNER|REPLICA|CLUSTER|FORCE|NO\s+FORCE"
    r"|(ALTER|RENAME)\s+CONSTRAINT)"
    r"|SET\s+CONSTRAINTS)\b",
    re.I,
)

ADDS_CHECK = re.compile(r"ALTER\s+TABLE\s+(ONLY\s+)?\S+\s+ADD\s+CHECK\b", re.I)


def effect_by_keywords(sql: str) -> Effect:
    """The effect that the first keywords show; unknown if more may follow."""
    if ADDS_CHECK.match(sql) and not _does_more(sql):
        return Effect(does="adds a constraint", on=_altered_table(sql))
    if NOT_LOSSY.match(sql) and not _does_more(sql):
        return Effect(does="nothing lossy", on=_altered_table(sql))
    return Effect(does="unknown", reason=f"effect unknown: {shortened(sql)}")


def _altered_table(sql: str) -> Name | None:
    """The table of an ALTER TABLE, if its name needs no quotes."""
    found = re.match(r"ALTER\s+TABLE\s+(?:ONLY\s+)?(?:([a-z_]\w*)\.)?([a-z_]\w*)\s", sql, re.I)
    return Name(folded(found[2]), folded(found[1] or "")) if found else None


def _does_more(sql: str) -> bool:
    """Whether more follows than the first keywords show: a second action, or CASCADE."""
    from sqlglot.dialects.postgres import Postgres
    from sqlglot.tokenizer_core import TokenType

    tokens = Postgres().tokenize(sql)
    first = tokens[0].text.upper()
    alters_table = first == "ALTER" and tokens[1].text.upper() == "TABLE"
    return any(
        (alters_table and token.token_type == TokenType.COMMA) or (first == "DROP" and token.text.upper() == "CASCADE")
        for token in tokens
    )
