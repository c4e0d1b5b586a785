"""A finding: one mistake or risk in a configuration, with its position and what to do about it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import quote as quoted

Severity = Literal["error", "warning"]
Format = Literal["text", "json", "sarif"]

FORMATS: tuple[Format, ...] = ("text", "json", "sarif")
"""The values of `--output` of the commands that check a configuration."""

_QUOTES = re.compile(r"\"|(?<!\w)'|'(?!\w)")
"""Quotes, which are no apostrophes."""

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


class Finding(NamedTuple):
    """An error prevents the use of the configuration or a rollback. A warning does not.

    `file` is empty and `line` is None if they are unknown. `path` is empty for the whole file.
    """

    file: str
    line: int | None
    path: str
    message: str
    hint: str = ""
    severity: Severity = "error"

    @property
    def where(self) -> str:
        """`file:line path`, as far as they are known."""
        position = self.file if self.line is None else f"{self.file}:{self.line}"
        return " ".join(filter(None, (position, self.path)))

    @property
    def text(self) -> str:
        """The message and the hint."""
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __str__(self) -> str:
        text = self.text if self.severity == "error" else f"{self.severity}: {self.text}"
        return f"{self.where}: {text}" if self.where else text


def finding_of(
    text: str, *, path: str = "", file: str = "", line: int | None = None, severity: Severity = "error"
) -> Finding:
    """A finding from `message; hint`, the form of all errors. A semicolon in quotes does not begin a hint."""
    message, _, hint = text.rpartition("; ")
    if not message or len(_QUOTES.findall(hint)) % 2:
        message, hint = text, ""
    return Finding(file, line, path, message, hint, severity)


def rendered(findings: Sequence[Finding], output: Format, program: str) -> str:
    """The findings as lines, as a JSON list, or as SARIF 2.1.0, which code hosts show beside the line.

    `program`: the one that checked.
    """
    match output:
        case "json":
            return json.dumps([finding._asdict() for finding in findings], indent=2)
        case "sarif":
            return json.dumps(_sarif(findings, program), indent=2)
        case "text":
            return "\n".join(map(str, findings))


def _sarif(findings: Sequence[Finding], program: str) -> dict[str, Any]:
    from importlib.metadata import version  # slow to import

    driver = {
        "name": f"{program} check",
        "version": version("rollback-responder"),
        "rules": [{"id": "configuration", "shortDescription": {"text": "Mistake or risk in a configuration"}}],
    }
    run = {"tool": {"driver": driver}, "results": [_result(finding) for finding in findings]}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": quoted(finding.file)}}
    if finding.line is not None:
        physical["region"] = {"startLine": finding.line}
    location: dict[str, Any] = {"physicalLocation": physical} if finding.file else {}
    if finding.path:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.path}]
    return {
        "ruleId": "configuration",
        "level": finding.severity,
        "message": {"text": finding.text},
        "locations": [location] if location else [],
    }
