"""Reads the history and the migration files of Alembic, to find what `--sql` cannot show."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from responder.backends.postgres.sql import shortened, split_statements
from responder.errors import StepFailed

_ONLINE_ONLY = {"is_offline_mode", "as_sql", "get_bind", "bind", "connection"}
_PRINTS = {"print", "stdout"}

_VERB = re.compile(
    r"\(*\s*(ALTER|ANALYZE|BEGIN|CALL|CLUSTER|COMMENT|COMMIT|COPY|CREATE|DEALLOCATE|DELETE|DISCARD|DO|DROP|END|EXECUTE"
    r"|EXPLAIN|GRANT|IMPORT|INSERT|LOCK|MERGE|NOTIFY|PREPARE|REASSIGN|REFRESH|REINDEX|RELEASE|RESET|REVOKE|ROLLBACK"
    r"|SAVEPOINT|SECURITY|SELECT|SET|SHOW|START|TABLE|TRUNCATE|UPDATE|VACUUM|VALUES|WITH)\b",
    re.I,
)


class Revision(NamedTuple):
    """One revision of the history: the revisions before it, those that it depends on, and its migration file."""

    parents: tuple[str, ...]
    dependencies: tuple[str, ...]
    path: str

    def depends_on_revisions(self, labels: dict[str, str]) -> Revision:
        """The same with revisions instead of labels of branches."""
        return self._replace(dependencies=tuple(labels.get(name, name) for name in self.dependencies))

    def changes_schemas(self, directory: Path | None) -> bool:
        """Whether env.py decides in which schema the names without one are. The rendered SQL lacks that."""
        for folder in ((directory or Path()) / self.path).parents[:3]:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                return bool(re.search("search_path|schema_translate_map", (folder / "env.py").read_text()))
        return False

    def unrendered(self, function: str, directory: Path | None) -> str | None:
        """Why `--sql` does not show all that `upgrade` or `downgrade` does. Empty if it does; None: file not readable.

        The file must not test for a connection or print: statements may be missing, or text that is no SQL be added.
        """
        path = (directory or Path()) / self.path
        try:
            main = _Module.read(path)
        except (OSError, UnicodeDecodeError, SyntaxError, ValueError):
            return None
        used = _reachable(main, function, (directory or Path(), *path.parents[:3]))
        if guards := sorted(used & _ONLINE_ONLY):
            return f"its {function} uses {guards[0]}, so the SQL that Alembic renders may lack statements"
        if prints := sorted(used & _PRINTS):
            return f"its {function} uses {prints[0]}, so the output of Alembic contains more than SQL"
        return ""


def parse_history(output: str) -> dict[str, Revision]:
    """The revisions in the output of `history --verbose`."""
    found: dict[str, Revision] = {}
    for entry in re.split(r"^(?=Rev: )", output, flags=re.M):
        fields: dict[str, str] = dict(re.findall(r"^(Rev|Parent|Merges|Also depends on|Path): (.*?)\s*$", entry, re.M))
        if "Rev" in fields:
            before = _listed(fields.get("Parent", fields.get("Merges", "")))
            name = re.sub(r"( \((head|branchpoint|mergepoint|current)\))+$", "", fields["Rev"])
            found[name] = Revision(before, _listed(fields.get("Also depends on", "")), fields.get("Path", ""))
    return found


def _listed(names: str) -> tuple[str, ...]:
    return tuple(name for name in re.split(r",\s*", names) if name and name != "<base>")


def heads_without(history: dict[str, Revision], heads: list[str], removed: set[str]) -> str:
    """The heads that Alembic records when these revisions are no longer applied, joined; `base` if none is left."""
    left = _with_ancestors(history, heads) - removed
    return ",".join(sorted(left - _before(history, left))) or "base"


def undone_revisions(history: dict[str, Revision], heads: list[str], goals: list[str]) -> list[str]:
    """The revisions to downgrade from the heads to the goals, each before those that it needs.

    Raises StepFailed if a goal is not applied.
    """
    applied = _with_ancestors(history, heads)
    if missing := [goal for goal in goals if goal not in applied]:
        raise StepFailed(f"cannot downgrade from {','.join(heads)} to {missing[0]}, which is not before it")
    left, undone = applied - _with_ancestors(history, goals), list[str]()
    while left:
        undone.append(max(left - _before(history, left)))
        left.remove(undone[-1])
    return undone


def _with_ancestors(history: dict[str, Revision], heads: list[str]) -> set[str]:
    found, todo = set[str](), list(heads)
    while todo:
        name = todo.pop()
        if name not in history:
            raise StepFailed(f"Alembic does not list revision {name}: keep the migration files of the running release")
        if name not in found:
            found.add(name)
            todo += _before(history, {name})
    return found


def _before(history: dict[str, Revision], names: set[str]) -> set[str]:
    return {before for name in names for before in (*history[name].parents, *history[name].dependencies)}


def text_in_sql(sql: str) -> str:
    """The first part of the rendered SQL that is no SQL, such as the output of print(). Empty if there is none."""
    try:
        statements = split_statements(sql)
    except ValueError as e:
        return str(e)
    for statement in statements:
        if not _VERB.match(statement):
            return shortened(statement)
    return ""


class _Module(NamedTuple):
    tree: ast.Module
    definitions: dict[str, list[ast.AST]]  # functions, classes and variables by name

    @classmethod
    def read(cls, path: Path) -> _Module:
        tree = ast.parse(path.read_bytes())
        definitions: dict[str, list[ast.AST]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                definitions.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.Assign):
                for name in (target.id for target in node.targets if isinstance(target, ast.Name)):
                    definitions.setdefault(name, []).append(node)
        return cls(tree, definitions)


def _reachable(main: _Module, function: str, roots: tuple[Path, ...]) -> set[str]:
    """The names that the function uses, with those of functions that it calls in the file and in imported modules."""
    modules = [main, *_imported(main, roots)]
    start = main.definitions.get(function, [main.tree])
    used, todo = set[str](), list(start)
    while todo:
        for name in _names(todo.pop()) - used:
            used.add(name)
            if name not in ("upgrade", "downgrade"):
                todo += [node for module in modules for node in module.definitions.get(name, ())]
    return used


def _names(tree: ast.AST) -> set[str]:
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def _imported(main: _Module, roots: tuple[Path, ...]) -> Iterator[_Module]:
    """The modules of the project that the file imports, and those that they import. Installed packages are left out."""
    seen, todo = set[Path](), [main]
    while todo:
        for path in _imports(todo.pop().tree, roots):
            if path in seen or "site-packages" in path.parts:
                continue
            seen.add(path)
            try:
                module = _Module.read(path)
            except (OSError, UnicodeDecodeError, SyntaxError, ValueError):
                continue
            todo.append(module)
            yield module


def _imports(tree: ast.Module, roots: tuple[Path, ...]) -> Iterator[Path]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names += [module, *(f"{module}.{alias.name}".strip(".") for alias in node.names)]
    for root in roots:
        for name in filter(None, names):
            path = root / name.replace(".", "/")
            yield from (file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file())
