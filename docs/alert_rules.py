"""The alert rules as objects of the Prometheus Operator, for kustomize, which cannot read them from `alert_rules/`."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import yaml

from responder.assets import RUNBOOK_URL

_RULES = Path(__file__).parents[1] / "alert_rules"
_RUNBOOKS = "http://responder.rollback-responder.svc:9095/runbooks"
_HEAD = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {{name: rollback-responder-{name}}}
spec:
"""


def manifests() -> str:
    """One PrometheusRule for each file of rules that the example configuration of Prometheus loads."""
    files = yaml.safe_load((_RULES / "prometheus.example.yml").read_text())["rule_files"]
    made = [_HEAD.format(name=Path(file).stem) + indent((_RULES / file).read_text(), "  ") for file in files]
    text = "---\n".join(made).replace(RUNBOOK_URL, _RUNBOOKS)
    return f"# Made by `python -m docs.generate` from alert_rules/. Change the rules there.\n{text}"
