"""Reads files of alert rules, as Prometheus and the Prometheus Operator do, in the form of Prometheus' API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from foundation.configuration.files import read_text
from foundation.configuration.findings import finding_of
from foundation.configuration.syntax_errors import explain
from foundation.configuration.yaml_document import UnreadableYaml
from responder.errors import ConfigError


class _Texts(yaml.SafeLoader):
    """Every scalar is text, as Prometheus reads labels: `rollback: true` is "true"."""

    yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}  # noqa: RUF012 - as in the base


def read_rules(file: Path) -> list[dict[str, Any]]:
    """The groups of a rule file, or of the PrometheusRule objects in it. Raises ConfigError."""
    try:
        text = read_text(file, "--rules")
        groups = list(_groups(yaml.load_all(text, _Texts)))
    except UnreadableYaml as e:
        raise ConfigError([e.finding]) from None
    except yaml.MarkedYAMLError as e:
        line, problem = explain(e, text)
        raise ConfigError([finding_of(f"invalid YAML: {problem}", file=str(file), line=line)]) from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, yaml.YAMLError):
        groups = []
    if not groups:
        problem = "has no groups of rules; name the files of `rule_files` in prometheus.yml"
        raise ConfigError([finding_of(problem, file=str(file))])
    return groups


def _groups(documents: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for document in filter(None, documents):
        for group in document.get("groups") or (document.get("spec") or {}).get("groups") or ():
            yield {"name": group["name"], "rules": [_rule(rule, group) for rule in group.get("rules") or ()]}


def _rule(rule: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
    kind, name = ("alerting", rule["alert"]) if "alert" in rule else ("recording", rule["record"])
    labels = {**(group.get("labels") or {}), **(rule.get("labels") or {})}
    return {"type": kind, "name": name, "labels": labels, "query": rule.get("expr", "")}
