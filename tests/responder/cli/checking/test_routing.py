"""Reports an Alertmanager whose routes do not lead an alert to the responder."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from responder.cli.checking.routing import unrouted, without_route
from tests import parts

EXAMPLE = Path(__file__).parents[4] / "alert_rules" / "alertmanager.example.yml"
_HOOK = {"url": "http://127.0.0.1:9095/api/v1/alerts"}


@pytest.mark.parametrize(
    ("hooks", "routes", "missing"),
    [
        ([_HOOK], [{"receiver": "us"}], False),
        ([_HOOK], [{"receiver": "nobody", "routes": [{"receiver": "us"}]}], False),
        ([_HOOK], [], True),
        ([], [{"receiver": "us"}], True),
        ([{"url": "http://127.0.0.1:9095/hook"}], [{"receiver": "us"}], True),
        ([{"url": "<secret>"}], [{"receiver": "us"}], False),  # newer ones hide the address
        ([{"url_file": "/etc/alertmanager/url"}], [{"receiver": "us"}], False),
    ],
)
def test_an_alertmanager_without_a_route_to_the_responder(hooks: list[Any], routes: list[Any], missing: bool) -> None:
    receivers = [{"name": "nobody"}, {"name": "us", "webhook_configs": hooks}]
    configuration = {"route": {"receiver": "nobody", "routes": routes}, "receivers": receivers}
    assert without_route(yaml.safe_dump(configuration)) is missing


@pytest.mark.parametrize("configuration", ["", "[]", "a: [", "route: 1", "receivers: {}"])
def test_an_unreadable_alertmanager_configuration_proves_nothing(configuration: str) -> None:
    assert not without_route(configuration)


def configuration(root: dict[str, Any], *routes: dict[str, Any]) -> str:
    receivers = [{"name": "nobody"}, {"name": "us", "webhook_configs": [_HOOK]}]
    return yaml.safe_dump({"route": {"receiver": "nobody", **root, "routes": list(routes)}, "receivers": receivers})


US = {"receiver": "us", "matchers": ['rollback="true"']}
OFFER = {"alertname": "HighErrorRate", "rollback": "true"}


@pytest.mark.parametrize(
    ("loaded", "arrives"),
    [
        (configuration({}, US), True),
        (configuration({"receiver": "us"}), True),
        (configuration({"receiver": "us"}, {"matchers": ['rollback="true"'], "receiver": "nobody"}), False),
        (configuration({}, {"receiver": "us", "matchers": ['alertname="ServiceFailing"']}), False),
        (configuration({}, {"receiver": "us", "matchers": ['{alertname="HighErrorRate", team="a"}']}), True),
        (configuration({}, {"receiver": "nobody", "matchers": ['alertname=~"High.*"']}, US), False),
        (configuration({}, {"receiver": "nobody", "matchers": ['alertname=~"High.*"'], "continue": True}, US), True),
        (configuration({}, {"receiver": "nobody", "matchers": ['team="a"']}, US), True),
        (configuration({}, {"matchers": ['team="a"'], "routes": [US]}), True),
        (configuration({}, {**US, "routes": [{"receiver": "nobody", "matchers": ['alertname!="X"']}]}), False),
        (configuration({}, {"receiver": "us", "match": {"rollback": "false"}}), False),
        (configuration({}, {"receiver": "us", "match": {"rollback": "true"}}), True),
        (configuration({}, {"receiver": "us", "match_re": {"alertname": "High"}}), False),
        (configuration({}, {"receiver": "us", "match_re": {"alertname": "High.*"}}), True),
        (configuration({}, {"receiver": "us", "matchers": ["a=b,,"]}), True),  # unreadable: proves nothing
    ],
)
def test_an_alert_without_a_route(loaded: str, arrives: bool) -> None:
    assert unrouted(loaded, [OFFER]) == ([] if arrives else [OFFER])


@pytest.mark.parametrize(
    "labels",
    [
        {"alertname": "RollbackAutomationArmed", "severity": "none"},
        {"alertname": "RollbackRequested"},
        OFFER,
        {"alertname": "SystemOverload", "preserve_logs": "true"},
        {"alertname": "CheckFailing", "severity": "critical"},
    ],
    ids=lambda labels: labels["alertname"],
)
def test_amtool_routes_the_same_way(labels: dict[str, str]) -> None:
    """Labels that the example's routes read and that are not given are absent."""
    parts.need("amtool")
    argv = [parts.program("amtool") or "", "config", "routes", "test", f"--config.file={EXAMPLE}"]
    ran = subprocess.run([*argv, *(f"{k}={v}" for k, v in labels.items())], capture_output=True, text=True, check=True)
    given = {"rollback": "", "preserve_logs": "", **labels}
    assert (unrouted(EXAMPLE.read_text(), [given]) == []) is ("responder" in ran.stdout.strip().split(","))
