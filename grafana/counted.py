"""PromQL that several dashboards share: increases of rare counters, and durations of the stages."""

from __future__ import annotations

STAGES = ("firing", "received", "decided", "started", "acted", "verified")
"""The stages in order: see `responder_stage_seconds` in docs/reference/metrics.md."""


def times(series: str, by: str) -> str:
    """The increase of a counter over the time range, including its first sample, which `increase` misses."""
    there = f"0 * last_over_time({series}[$__range])"
    return (
        f"sum by ({by}) (round(increase({series}[$__range])) or {there})"
        f" + sum by ({by}) ((min_over_time({series}[$__range]) unless {series} offset $__range) or {there})"
    )


def stages(quantile: float) -> str:
    """A quantile for each stage; numbered names keep the stages in order."""
    expr = f"histogram_quantile({quantile}, sum by (stage, le) (increase(responder_stage_seconds_bucket[$__range])))"
    for number, stage in enumerate(STAGES, 1):
        expr = f'label_replace({expr}, "stage", "{number} {stage}", "stage", "{stage}")'
    return expr


def quantile(which: float, series: str, by: str = "") -> str:
    """A quantile of a histogram, over the rate interval of the graph."""
    return (
        f"histogram_quantile({which}, sum by ({f'{by}, ' if by else ''}le) (rate({series}_bucket[$__rate_interval])))"
    )
