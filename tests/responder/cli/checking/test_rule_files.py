"""`check --rules` reports the rules of files that offer a rollback but reach no policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from responder.cli.checking.check import check
from responder.cli.checking.rule_files import read_rules
from responder.errors import ConfigError

ROOT = Path(__file__).parents[4]
RULES = sorted(path for path in (ROOT / "alert_rules").glob("*.yml") if not path.name.endswith(".example.yml"))
OFFERING = ["ErrorRateRegressed", "HighErrorRate", "LatencyHigh", "ServiceFailing"]
CONFIG = """\
state: sqlite://{state}
prometheus: {{url: "http://127.0.0.1:1"}}
alertmanager: {{urls: ["http://127.0.0.1:1"]}}
services: []
policies:
  - {{name: one, match: ['{match}'], roll_back: {{label: service}}}}
"""


async def problems(directory: Path, match: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    file = directory / "responder.yml"
    file.write_text(CONFIG.format(state=directory / "state.db", match=match))
    code = await check(file, live=False, output="json", rules=RULES)
    return code, [
        finding["message"] for finding in json.loads(capsys.readouterr().out) if finding["severity"] == "error"
    ]


async def test_every_offer_of_the_shipped_rules_must_reach_a_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await problems(tmp_path, 'rollback="true"', capsys) == (0, [])
    code, found = await problems(tmp_path, 'alertname="ServiceFailing"', capsys)
    assert (code, sorted(target.split()[1] for target in found)) == (1, OFFERING[:-1])


def test_a_prometheus_rule_object_is_read_as_its_rule_file(tmp_path: Path) -> None:
    groups = yaml.safe_load(RULES[0].read_text())["groups"]
    as_object = tmp_path / "rule.yml"
    rule = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "spec": {"groups": groups}}
    as_object.write_text(f"---\n---\n{yaml.safe_dump(rule)}")
    assert read_rules(as_object) == read_rules(RULES[0])


def test_labels_of_the_group_apply_to_its_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    rule: dict[str, Any] = {"alert": "A", "expr": "up", "labels": {"severity": "page"}}
    group = {"name": "g", "labels": {"rollback": True, "severity": "none"}, "rules": [rule]}
    file.write_text(yaml.safe_dump({"groups": [group]}))
    ((read,),) = [group["rules"] for group in read_rules(file)]
    assert read == {"type": "alerting", "name": "A", "labels": {"rollback": "true", "severity": "page"}, "query": "up"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("groups: [", "invalid YAML"),
        ("", "has no groups of rules"),
        ("5", "has no groups of rules"),
        ("groups: [{rules: []}]", "has no groups of rules"),
        ("groups: [{name: a, rules: [{expr: up}]}]", "has no groups of rules"),
        ("scrape_configs: []", "name the files of `rule_files`"),
    ],
)
def test_a_file_without_rules_is_a_mistake_that_names_it(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "rules.yml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_rules(file)
    (mistake,) = caught.value.mistakes
    assert mistake.startswith((f"{file}: ", f"{file}:1: "))
    assert says in mistake
