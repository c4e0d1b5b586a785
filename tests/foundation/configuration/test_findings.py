"""Findings have one format: as lines, as a JSON list, and as SARIF."""

from __future__ import annotations

import json

import jsonschema
import pytest

from foundation.configuration.findings import Finding, finding_of, rendered

FINDINGS = [
    Finding("conf dir/r.yml", 4, "web.listen", "is no address", "write it as 127.0.0.1:9095"),
    Finding("r.yml", None, "", "is empty", severity="warning"),
]

SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool"],
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {"driver": {"type": "object", "required": ["name"]}},
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message", "level", "ruleId", "locations"],
                            "properties": {
                                "message": {"type": "object", "required": ["text"]},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "locations": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "properties": {
                                            "physicalLocation": {
                                                "type": "object",
                                                "required": ["artifactLocation"],
                                                "properties": {
                                                    "artifactLocation": {
                                                        "type": "object",
                                                        "properties": {"uri": {"type": "string", "pattern": "^[^ ]+$"}},
                                                    },
                                                    "region": {
                                                        "type": "object",
                                                        "properties": {"startLine": {"type": "integer", "minimum": 1}},
                                                    },
                                                },
                                            }
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
"""What the schema of SARIF 2.1.0 requires of the parts that are used here."""


def test_text_has_one_line_for_each() -> None:
    assert rendered(FINDINGS, "text", "responder").splitlines() == [
        "conf dir/r.yml:4 web.listen: is no address (write it as 127.0.0.1:9095)",
        "r.yml: warning: is empty",
    ]


def test_json_is_a_list_of_objects() -> None:
    assert json.loads(rendered(FINDINGS, "json", "responder"))[0] == {
        "file": "conf dir/r.yml",
        "line": 4,
        "path": "web.listen",
        "message": "is no address",
        "hint": "write it as 127.0.0.1:9095",
        "severity": "error",
    }
    assert rendered([], "json", "responder") == "[]"


@pytest.mark.parametrize("findings", [FINDINGS, []])
def test_sarif_is_valid(findings: list[Finding]) -> None:
    document = json.loads(rendered(findings, "sarif", "exporters"))
    jsonschema.validate(document, SARIF)
    assert [result["level"] for result in document["runs"][0]["results"]] == [f.severity for f in findings]
    assert "exporters" in document["runs"][0]["tool"]["driver"]["name"]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("no service a is configured; did you mean b?", "no service a is configured", "did you mean b?"),
        ("is missing", "is missing", ""),
        ("one; two; three", "one; two", "three"),
        ("'a; b' is no name", "'a; b' is no name", ""),
        ("", "", ""),
    ],
)
def test_what_follows_the_last_semicolon_is_the_hint(text: str, message: str, hint: str) -> None:
    assert finding_of(text)[3:5] == (message, hint)
