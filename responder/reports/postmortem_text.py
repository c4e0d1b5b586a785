"""A post-mortem draft as Markdown, for people to edit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from foundation.durations import format_duration
from responder.reports.markdown import cell, code, moment, table
from responder.reports.record import PostMortem

_MOST_ALERTS = 20


def markdown(postmortem: PostMortem, plot: str | None = None) -> str:
    """`plot`: the path of the plot, relative to the document."""
    return "\n".join(_lines(postmortem, plot)) + "\n"


def _lines(postmortem: PostMortem, plot: str | None) -> Iterator[str]:
    yield f"# Post-mortem draft: {cell(postmortem.service)} in {cell(postmortem.environment)}, {cell(postmortem.id)}"
    yield ""
    yield "> Draft from the responder's journal. Answer the questions at the end."
    yield ""
    yield "## Summary"
    yield cell(postmortem.summary)
    yield ""
    facts = {
        "Versions": f"{postmortem.from_version} → {postmortem.to_version}",
        "Outcome": postmortem.outcome or f"none yet ({postmortem.state})",
        "Strategy": postmortem.strategy,
        "Policy": postmortem.policy,
        "Requested by": postmortem.requested_by,
    }
    yield from table(("", ""), facts.items())
    yield ""
    yield "## Impact"
    if postmortem.impact_seconds is not None:
        yield f"{_duration(postmortem.impact_seconds)} from the onset, or the first alert, until the end."
    else:
        yield "The duration is not recorded."
    yield ""
    window = postmortem.window
    moments = {
        "deployed": window.deployed_at,
        "onset": window.onset_at,
        "firing": window.firing_at,
        "accepted": window.accepted_at,
        "acted": window.acted_at,
        "ended": window.ended_at,
    }
    yield from table(("moment", "at"), ((name, moment(at) or "unknown") for name, at in moments.items()))
    yield ""
    yield from table(("stage", "took"), ((stage.name, _duration(stage.seconds)) for stage in postmortem.stages))
    if plot:
        yield ""
        yield f"![The decisive series, with the times above](<{plot}>)"
    yield ""
    yield "## Timeline"
    yield from table(
        ("at (UTC)", "what", ""), ((f"{m.at:%Y-%m-%d %H:%M:%S.%f}"[:-3], m.what, m.detail) for m in postmortem.timeline)
    )
    yield ""
    yield "## Changes"
    if postmortem.changes:
        rows = (
            (c.resource, c.before, c.after, "revert" if c.reverting else "forward", _EFFECT[c.effect])
            for c in postmortem.changes
        )
        yield from table(("resource", "before", "after", "direction", "effect"), rows)
    else:
        yield "Nothing."
    yield ""
    yield "## Guards"
    if postmortem.guard_results:
        yield from table(
            ("guard", "result", "reason"), ((v.guard, v.result, v.reason) for v in postmortem.guard_results)
        )
    else:
        yield "The decision is not recorded."
    yield ""
    yield "## Alerts"
    for alert in postmortem.alerts[:_MOST_ALERTS]:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items()) if name != "alertname")
        summary = alert.annotations.get("summary", "")
        yield f"- **{cell(alert.name)}** since {moment(alert.starts_at)}: {code(labels)} {cell(summary)}".rstrip()
    if (left := len(postmortem.alerts) - _MOST_ALERTS) > 0:
        yield f"- and {left} more"
    if not postmortem.alerts:
        yield "None: requested by a person."
    yield ""
    yield "## Left to do"
    yield from _list(postmortem.left_to_do)
    yield ""
    yield "## Questions"
    yield from _list(postmortem.questions)


_EFFECT = {True: "changed", False: "no change needed", None: "unknown"}


def _list(texts: Iterable[str]) -> Iterator[str]:
    items = [f"- [ ] {cell(text)}" for text in texts]
    yield from items or ["None."]


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else format_duration(seconds // 1)
