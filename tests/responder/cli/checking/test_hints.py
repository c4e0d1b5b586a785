"""`check` reports risky settings, each with the line to change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from foundation.configuration.findings import Finding
from responder.cli.checking.check import check
from responder.cli.checking.hints import SHIPPED

RULES = Path(__file__).parents[4] / "alert_rules"
CONFIG = """\
state: sqlite://{state}
prometheus: {{url: "http://127.0.0.1:1"}}
alertmanager: {{urls: ["http://127.0.0.1:1"]}}
watchdog: {{match: ['alertname="RollbackAutomationArmed"']}}
services:
  - name: backend
    environment: production
    rollback: {{strategy: immediate, release: {{root: {root}{more}}}}}
    health_checks: [{{http: "http://127.0.0.1:1/"}}]
policies:
  - name: one
    match: {match}
    roll_back: {{label: service}}
    mode: {mode}
"""


async def hints(
    directory: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    match: str = """['rollback="true"']""",
    mode: str = "observe",
    more: str = ", restart: [systemctl, restart, backend]",
    end: str = "",
) -> list[str]:
    file = directory / "responder.yml"
    fields = {"state": directory / "state.db", "root": directory, "match": match, "mode": mode, "more": more}
    file.write_text(CONFIG.format(**fields) + end)
    assert await check(file, live=False, output="json") == 0
    found = [Finding(**finding) for finding in json.loads(capsys.readouterr().out)]
    assert {finding.severity for finding in found} <= {"warning"}
    return [str(finding).removeprefix(f"{file}:") for finding in found]


@pytest.mark.parametrize(
    "match",
    [
        """['rollback="true"']""",
        """['rollback=~"true|yes"', 'team="a"']""",
        """['alertname="HighErrorRate"']""",
        """['alertname=~"HighErrorRate|LatencyHigh"', 'service="backend"']""",
    ],
)
async def test_alerts_of_the_shipped_rules_need_no_expression(
    match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await hints(tmp_path, capsys, match=match) == []


@pytest.mark.parametrize(
    "match",
    [
        """['alertname="CheckoutErrors"']""",
        """['alertname=~"HighErrorRate|CheckoutErrors"']""",
        """['alertname=~"High.*"']""",
        """['alertname!="HighErrorRate"']""",
        """['rollback!="true"']""",
        """['rollback=""']""",
        """['rollback=~".*"']""",
        """['team="a"']""",
    ],
)
async def test_alerts_of_other_rules_need_one_and_the_hint_names_the_line(
    match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (hint,) = await hints(tmp_path, capsys, match=match)
    assert hint.startswith("11 policies[0].expression: warning: policy one has none")
    assert "only while a health or traffic check of the service fails" in hint
    assert await hints(tmp_path, capsys, match=match, end="    expression: errors > 1\n") == []


@pytest.mark.parametrize("matcher", ["alertname=''X''", 'alert-name="X"'])
async def test_a_matcher_that_probably_never_matches_has_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], matcher: str
) -> None:
    (hint,) = await hints(tmp_path, capsys, match=f"""['rollback="true"', '{matcher}']""")
    assert hint.partition(":")[0] == "12 policies[0].match"


async def test_a_matcher_that_newer_alertmanagers_read_otherwise_has_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = await hints(tmp_path, capsys, match=r"""['rollback="true"', 'team=~"a\.b"']""")
    assert [hint.partition(":")[0] for hint in found] == ["12 policies[0].match"]
    assert found[0].endswith(r'(write it as team=~"a\\.b")'), found


async def test_every_hint_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    web = "web: {listen: '0.0.0.0:9095', tokens: [{name: am, scopes: [alerts], token: 0123456789abcdef}]}"
    end = f"    verify: {{for: 10s, within: 1m}}\n{web}\n"
    found = await hints(tmp_path, capsys, mode="auto", more="", end=end)
    assert [hint.partition(" ")[0] for hint in found] == ["16", "8", "15"], found


def test_the_listed_shipped_rules_record_the_current_trouble() -> None:
    rules: list[Any] = [
        rule
        for file in RULES.glob("*.yml")
        for group in (yaml.safe_load(file.read_text()) or {}).get("groups", ())
        for rule in group["rules"]
    ]
    now = {rule["labels"]["alertname"] for rule in rules if rule.get("record") == "service_environment:trouble:now"}
    assert now == SHIPPED
