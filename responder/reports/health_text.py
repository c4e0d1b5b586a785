"""The health report as Markdown, for a ticket or a channel."""

from __future__ import annotations

from collections.abc import Iterator

from responder.reports.facts import Rollback
from responder.reports.health import CheckReport, Report
from responder.reports.markdown import cell, code, moment, table


def markdown(report: Report) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# Health report: {report.status}"
    yield ""
    yield f"As of {moment(report.at)}. Period: since {moment(report.since)}."
    yield ""
    yield "## Services"
    yield from table(
        ("service", "environment", "status", "version", "known as", "deployed", "rollback target", "last rollback"),
        (
            (
                service.service, service.environment, service.status, service.version or "not reported",
                service.version_status or "", moment(service.deployed_at), service.rollback_target or "none",
                _last(service.last_rollback),
            )
            for service in report.services
        ),
    )  # fmt: skip
    for title, checks in (
        ("Failed checks", report.failed_checks),
        ("Checks without an answer", report.unanswered_checks),
    ):
        yield ""
        yield f"## {title}"
        yield from _checks(checks)
    yield ""
    yield "## Warnings"
    for warned in report.warnings:
        since = f" (since {moment(warned.since)})" if warned.since else ""
        yield f"- **{cell(warned.about)}**: {cell(warned.fact)}{since}"
    if not report.warnings:
        yield "None."
    yield ""
    yield "## Recommendations"
    for n, advice in enumerate(report.recommendations, 1):
        yield f"{n}. {cell(advice.do[:1].upper() + advice.do[1:])}: {code(advice.see)}"
        yield f"   Because {cell(advice.because)}"
    if not report.recommendations:
        yield "None."
    yield ""
    yield "## Rollbacks"
    if report.rollbacks:
        rows = (
            (x.id, x.service, x.environment, f"{x.from_version} → {x.to_version}", x.outcome or x.state, x.reason)
            for x in report.rollbacks
        )
        yield from table(("id", "service", "environment", "versions", "outcome", "reason"), rows)
    else:
        yield "None."


def _checks(checks: list[CheckReport]) -> Iterator[str]:
    if not checks:
        yield "None."
        return
    rows = ((c.service, c.environment, c.kind, c.reason) for c in checks)
    yield from table(("service", "environment", "kind", "result"), rows)


def _last(rollback: Rollback | None) -> str:
    return f"{rollback.outcome}, {moment(rollback.ended_at)} ({rollback.id})" if rollback else ""
