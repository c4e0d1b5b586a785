"""The objects for the Prometheus Operator fit the rules, and alerts reach the responder."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.rendering import Manifest, charted, of
from tests.parts import need


def test_the_operator_reads_the_labels() -> None:
    alertmanager = {"enabled": True, "labels": {"a": "b"}}
    for manifest in charted(
        {"monitoring": {"enabled": True, "labels": {"release": "kps"}, "alertmanager": alertmanager}}
    ):
        labels = manifest["metadata"].get("labels", {})
        selected = {"a": "b"} if manifest["kind"] == "AlertmanagerConfig" else {"release": "kps"}
        assert (selected.items() <= labels.items()) == ("monitoring.coreos.com" in manifest["apiVersion"])


RUNBOOKS: list[tuple[Manifest, str]] = [
    ({}, "http://responder.rollback-responder.svc:9095/runbooks/"),
    ({"responder": {"config": {"web": {"external_url": "https://r.example/"}}}}, "https://r.example/runbooks/"),
    ({"monitoring": {"rules": {"runbookUrl": "https://wiki.example/r/"}}}, "https://wiki.example/r/"),
]


@pytest.mark.parametrize(("values", "address"), RUNBOOKS)
def test_alerts_link_to_runbooks_that_the_cluster_serves(values: Manifest, address: str) -> None:
    monitoring = {**values.get("monitoring", {}), "enabled": True}
    for manifest in of("PrometheusRule", charted({**values, "monitoring": monitoring})):
        alerts = [rule for group in manifest["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
        found = [alert["annotations"]["runbook_url"] for alert in alerts if "annotations" in alert]
        assert found
        assert {url.rpartition("/")[0] + "/" for url in found} == {address}


ROUTED = {
    "alertname=RollbackAutomationArmed": {"responder"},
    "alertname=ServiceFailing rollback=true": {"responder"},
    "alertname=RollbackRequested rollback=true": {"responder"},
    "alertname=SeveralServicesFailing preserve_logs=true": {"responder"},
    "alertname=CheckFailing": {"humans"},
}


@pytest.mark.parametrize(("labels", "receivers"), ROUTED.items(), ids=ROUTED)
def test_alerts_reach_the_responder_and_all_others_pass_by(labels: str, receivers: set[str], tmp_path: Path) -> None:
    need("amtool")
    routes, known = [], [{"name": "humans"}]
    for manifest in of("AlertmanagerConfig", charted({"monitoring": {"alertmanager": {"enabled": True}}})):
        route, name = manifest["spec"]["route"], manifest["metadata"]["name"]
        matchers = [f'{matcher["name"]}{matcher["matchType"]}"{matcher["value"]}"' for matcher in route["matchers"]]
        routes.append({"receiver": name, "matchers": matchers, "continue": True})  # as the operator writes it
        known.append({"name": name})
    config = tmp_path / "alertmanager.yml"
    config.write_text(yaml.safe_dump({"route": {"receiver": "humans", "routes": routes}, "receivers": known}))
    argv = ["amtool", "config", "routes", "test", f"--config.file={config}", *labels.split()]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    reached = done.stdout.strip().split(",")
    assert {re.sub(r"-\d$", "", name) for name in reached} == receivers
    assert len(reached) == 1, "once"
