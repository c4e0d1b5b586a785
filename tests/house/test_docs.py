"""The documentation matches the code: pages, links, commands, configurations, series and names."""

from __future__ import annotations

import re
import shlex
import sqlite3
from collections.abc import Iterator
from inspect import isabstract
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs import generate
from exporters.config import load as load_exporters
from responder.app import serve as _with_every_page  # noqa: F401 - pages are known once they are imported
from responder.app.loading import parse
from responder.decisions.guards import GUARDS
from responder.decisions.policies import BY_HAND
from responder.decisions.policy_set import PolicySet
from responder.journal.database import load_migrations
from responder.runtime.journal_metrics import JournalMetrics, JournalSnapshot
from responder.runtime.metrics import Metrics
from responder.web.http.routes import Handlers
from responder.web.process import ProcessHandlers
from tests.command_lines import PROGRAMS, usage_error

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
PAGES = sorted(
    p
    for p in ROOT.rglob("*.md")
    if not p.is_symlink() and not any(part.startswith(".") for part in p.relative_to(ROOT).parts)
)
SECRET = "0123456789abcdef0123456789abcdef"
NOT_DESCRIBED = {"Policy.name"}  # must become empty: every new field has a description


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The language and the text of every code block."""
    yield from re.findall(r"^ *```(\w*)\n(.*?)^ *```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def _outside_of_blocks(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


YAML = [(page, text) for page in DOCUMENTS for language, text in _blocks(page) if language == "yaml"]
CONFIGURATIONS = [(page, text) for page, text in YAML if text.startswith("state:")]
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))
RUN_BY = {
    "docker-compose": "tests/stack/test_how_to.py",
    "grafana": "tests/grafana/test_dashboards.py",
    "stack": "tests/stack/test_stack.py",
    "mark-versions": "tests/acceptance/test_how_to.py",
    "reports": "tests/acceptance/test_how_to.py",
    "steer-with-amtool": "tests/acceptance/test_how_to.py",
    "version-registry": "tests/acceptance/test_how_to.py",
    "when-it-is-stuck": "tests/acceptance/test_how_to.py",
}
"""The test that runs the example of a how-to page, if the example is not a configuration."""


def _commands(page: Path) -> Iterator[list[str]]:
    """Every documented command: lines in code blocks, and text in backticks with arguments."""
    lines = [line for _, text in _blocks(page) for line in text.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`((?:responder|exporters) [^`]+ [^`]+)`", _outside_of_blocks(page))
    for line in (*lines, *spans):
        try:
            words = shlex.split(line.strip().removeprefix("$ "), comments=True)
        except ValueError:  # not a command: prose, or part of a diagram
            continue
        if len(words) > 1 and words[0] in PROGRAMS and re.fullmatch("[a-z]+", words[1]):
            ends = (i for i, word in enumerate(words) if word in ("|", "||", "&&", ";", ">", ">>", "2>", "&"))
            yield words[: next(ends, len(words))]


COMMANDS = [(page, words) for page in DOCUMENTS for words in _commands(page)]


def _environment(text: str) -> dict[str, str]:
    names = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text))
    return {name: f"{SECRET}{n}" for n, name in enumerate(names)}  # tokens must differ


def _loaded(text: str, tmp_path: Path) -> Any:
    """The configuration; token files, key files and the web configuration file are replaced by temporary ones."""

    def token(named: re.Match[str]) -> str:
        file = tmp_path / f"{Path(named[1]).name}"
        file.write_text(f"{SECRET} of {file.name}")
        return f"file: {file}"

    key = tmp_path / "key"
    key.write_text(SECRET * 2)  # 32 bytes as hex
    here = re.sub(r'\bfile: "?(?:\$\{CREDENTIALS_DIRECTORY\})?(/\S+\.token)\b"?', token, text)
    here = re.sub(r"\bkey_file: /[\w./-]+\.key\b", f"key_file: {key}", here)
    passwords = tmp_path / "web.yml"
    hashed = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
    users = (yaml.safe_load(here).get("web") or {}).get("users", ())
    passwords.write_text(yaml.safe_dump({"basic_auth_users": {user["name"]: hashed for user in users}}))
    here = re.sub(r"\bconfig_file: /\S+", f"config_file: {passwords}", here)
    return parse(here, "the documentation", _environment(here))


def test_generated_pages_are_current() -> None:
    assert generate.stale() == [], "python -m docs.generate"


def test_every_configuration_key_has_a_description() -> None:
    assert set(generate.undescribed()) <= NOT_DESCRIBED


def test_the_documents_are_found() -> None:
    assert len(CONFIGURATIONS) >= 4
    assert len(COMMANDS) >= 20


@pytest.mark.parametrize(("page", "text"), YAML, ids=lambda value: _name(value) if isinstance(value, Path) else "")
def test_yaml_blocks_are_valid(page: Path, text: str) -> None:
    yaml.safe_load(text)


@pytest.mark.parametrize(
    ("page", "text"), CONFIGURATIONS, ids=lambda value: _name(value) if isinstance(value, Path) else ""
)
def test_configurations_load(page: Path, text: str, tmp_path: Path) -> None:
    _loaded(text, tmp_path)


@pytest.mark.parametrize("page", HOW_TO, ids=_name)
def test_a_how_to_begins_with_what_it_achieves_and_an_example(page: Path) -> None:
    title, purpose, rest = page.read_text().split("\n\n", 2)
    assert re.fullmatch("# .+", title)
    assert re.fullmatch(r"[^.]+(?:\.md[^.]+)*\.", re.sub(r"\]\(https:[^)]*\)", "]", purpose)), "one sentence"
    assert len(purpose.split()) <= 25
    assert rest.startswith("```"), "the example follows"
    if page.stem in RUN_BY:
        assert page.stem in (ROOT / RUN_BY[page.stem]).read_text()
    else:
        assert (page, next(_blocks(page))[1]) in CONFIGURATIONS


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yml")), ids=_name)
def test_examples_load(file: Path, tmp_path: Path) -> None:
    text = file.read_text()
    keys = yaml.safe_load(text).keys()
    if "state" in keys:
        _loaded(text, tmp_path)
    elif "checks" in keys:
        load_exporters(file, _environment(text))


def test_the_example_shows_every_key() -> None:
    """Every key of the configuration models, as a key or in a comment."""
    text = (ROOT / "examples" / "responder.yml").read_text()
    shown = set(re.findall(r"(\w+):", text))
    rows = re.findall(r"^\| `([\w.\[\]]+)` \|", generate.configuration(), flags=re.MULTILINE)
    keys = {row.rpartition(".")[2] for row in rows}
    in_plans_only = {"resource", "kind", "count", "autoscaler"}
    assert keys - shown - {"at_most", "below"} - in_plans_only == set()


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=lambda value: _name(value) if isinstance(value, Path) else shlex.join(value)
)
def test_commands_parse(page: Path, words: list[str]) -> None:
    # A placeholder such as <id>, ID or "..." is a value like any other.
    assert usage_error(words[0], words[1:]) == "", f"{_name(page)}: {shlex.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_are_valid(page: Path) -> None:
    lost = []
    for target in re.findall(r"\]\(([^()\s]+)\)", _outside_of_blocks(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, heading = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        headings = (
            {_anchor(h) for h in re.findall(r"^#+ (.*)$", there.read_text(), flags=re.MULTILINE)}
            if (heading and there.is_file())
            else {heading}
        )
        if not there.exists() or heading not in headings:
            lost.append(target)
    assert lost == []


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_documented_files_exist() -> None:
    for page in DOCUMENTS:
        named = set(re.findall(r"`((?:[\w]+/)+[\w]+\.(?:py|sql))`", page.read_text()))
        if page.name == "CONTRIBUTING.md":  # its examples add files
            named = {file for file in named if not re.search("unix_socket|pagerduty|consul", file)}
        lost = {file for file in named if not any((top / file).exists() for top in (ROOT, ROOT / "responder"))}
        assert lost == set(), _name(page)


def test_documented_series_exist() -> None:
    nothing = JournalSnapshot(stopped="", open_executions=[], ends=[], running=[], targets=[], statuses=[], troubled=[])
    parts = (Metrics().registry, JournalMetrics(nothing, PolicySet(), disarmed=""))
    families = [family for part in parts for family in part.collect()]
    there = {f"{f.name}_total" if f.type == "counter" else f.name for f in families if f.name.startswith("responder_")}
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    assert set(re.findall(r"^\| `(responder_\w+)`", page, flags=re.MULTILINE)) == there


def test_documented_labels_exist() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    documented = dict(re.findall(r"^\| `(responder_\w+)` \| \w+ \| ([^|]*) \|", page, flags=re.MULTILINE))
    metrics = Metrics()
    for series in (
        metrics.webhooks, metrics.alerts, metrics.decisions, metrics.executions,
        metrics.duration, metrics.stages, metrics.steps,
    ):  # fmt: skip
        family = series.describe()[0]
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert re.findall(r"`(\w+)`", documented[name]) == list(series._labelnames), name


def test_documented_views_have_their_columns() -> None:
    database = sqlite3.connect(":memory:")
    for migration in load_migrations():
        database.executescript(migration)
    text = (ROOT / "docs" / "reference" / "views.md").read_text()
    documented = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        cells = re.findall(r"^\| (`[^|]*`) \|", part, flags=re.MULTILINE)
        documented[part.split()[0]] = [column for cell in cells for column in re.findall(r"`(\w+)`", cell)]
    views = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY rowid")]
    actual = {view: [row[1] for row in database.execute(f"PRAGMA table_info({view})")] for view in views}
    database.close()
    assert {view: sorted(columns) for view, columns in documented.items()} == {v: sorted(c) for v, c in actual.items()}


def test_documented_routes_exist() -> None:
    subclasses = (*Handlers.__subclasses__(), *ProcessHandlers.__subclasses__())
    own_pages = (page for page in subclasses if page.__module__.startswith("responder.") and not isabstract(page))
    handlers = (object.__new__(page) for page in own_pages)  # no URL depends on the dependencies of a page
    registered = {f"{route.method} {route.path}" for page in handlers for route in page.routes()}
    text = (ROOT / "docs" / "reference" / "http.md").read_text()
    assert set(re.findall(r"^\| `((?:GET|POST) [^`]+)`", text, flags=re.MULTILINE)) == registered


def test_documented_guards_exist() -> None:
    names = [guard.name for guard in GUARDS]
    reference = (ROOT / "docs" / "reference" / "guards.md").read_text().split("\n## ", 1)[0]
    bypassed = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", reference, flags=re.MULTILINE))
    assert list(bypassed) == names
    assert {g.name for g in GUARDS if g.bypassed} <= {name for name, who in bypassed.items() if who == "yes"}
    for page in DOCUMENTS:
        listed = re.findall(r"\bguards? ((?:`\w+`(?:, | and )?)+)", _outside_of_blocks(page))
        named = {name for some in listed for name in re.findall(r"`(\w+)`", some)}
        assert named <= {*names, "policy"}, _name(page)  # `policy` stands for alerts that no policy matches


def test_documented_policies_exist() -> None:
    texts = [text for _, text in CONFIGURATIONS] + [
        f.read_text() for f in sorted((ROOT / "examples").rglob("responder.yml"))
    ]
    known = {policy["name"] for text in texts for policy in yaml.safe_load(text).get("policies", ())} | {BY_HAND.name}
    for page in DOCUMENTS:
        named = set(re.findall(r"\bpolicy `([\w-]+)`", _outside_of_blocks(page)))
        assert named <= known, _name(page)
