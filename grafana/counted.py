"""PromQL that more than one dashboard needs: how often something rare happened, and how long the stages took."""

from __future__ import annotations

STAGES = ("firing", "received", "decided", "started", "acted", "verified")
"""In their order: see `responder_stage_seconds` in docs/reference/metrics.md."""


def times(series: str, by: str) -> str:
    """How often a counter went up while it is shown, its first time included, which `increase` does not see."""
    there = f"0 * last_over_time({series}[$__range])"
    return (
        f"sum by ({by}) (round(increase({series}[$__range])) or {there})"
        f" + sum by ({by}) ((min_over_time({series}[$__range]) unless {series} offset $__range) or {there})"
    )


def stages(quantile: float) -> str:
    """A quantile for each stage, named so that they sort in their order."""
    expr = f"histogram_quantile({quantile}, sum by (stage, le) (increase(responder_stage_seconds_bucket[$__range])))"
    for number, stage in enumerate(STAGES, 1):
        expr = f'label_replace({expr}, "stage", "{number} {stage}", "stage", "{stage}")'
    return expr


def quantile(which: float, series: str, by: str = "") -> str:
    """Of a histogram, over the time between two points of a graph."""
    return (
        f"histogram_quantile({which}, sum by ({f'{by}, ' if by else ''}le) (rate({series}_bucket[$__rate_interval])))"
    )
