"""Reads files of alert rules, as Prometheus and the Prometheus Operator do, in the form of Prometheus' API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from responder.errors import ConfigError


def read_rules(file: Path) -> list[dict[str, Any]]:
    """The groups of a rule file, or of the PrometheusRule objects in it. Raises ConfigError."""
    try:
        documents = [document for document in yaml.safe_load_all(file.read_text()) if document is not None]
        groups = list(_groups(documents))
    except OSError as e:
        raise ConfigError([f"{file}: cannot be read: {e.strerror}"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise ConfigError([f"{file}: is not YAML: {' '.join(str(e).split())}"]) from None
    except (AttributeError, KeyError, TypeError):
        groups = []
    if not groups:
        raise ConfigError([f"{file}: has no groups of rules; name the files of `rule_files` in prometheus.yml"])
    return groups


def _groups(documents: list[Any]) -> Iterator[dict[str, Any]]:
    for document in documents:
        for group in document.get("groups") or (document.get("spec") or {}).get("groups") or ():
            yield {"name": group["name"], "rules": [_rule(rule, group) for rule in group.get("rules") or ()]}


def _rule(rule: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
    kind, name = ("alerting", rule["alert"]) if "alert" in rule else ("recording", rule["record"])
    labels = {name: str(value) for name, value in {**(group.get("labels") or {}), **(rule.get("labels") or {})}.items()}
    return {"type": kind, "name": name, "labels": labels, "query": rule.get("expr", "")}
