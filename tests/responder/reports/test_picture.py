"""The plot shows the relevant time range."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from responder.reports.picture import span
from responder.reports.record import Window
from tests.responder.examples import NOW, ago


def window(**other: Any) -> Window:
    fields = {
        "deployed_at": ago(600), "onset_at": ago(300), "firing_at": ago(270), "received_at": ago(269),
        "accepted_at": ago(269), "acted_at": ago(268), "ended_at": ago(100), **other,
    }  # fmt: skip
    return Window(**fields)


@pytest.mark.parametrize(
    ("shown", "start", "end"),
    [
        (window(), ago(675), ago(25)),
        (window(deployed_at=ago(90_000)), ago(330), ago(70)),
        (window(deployed_at=None), ago(330), ago(70)),
        (window(deployed_at=None, onset_at=None), ago(300), ago(70)),
        (window(deployed_at=None, onset_at=None, firing_at=None), ago(299), ago(70)),
        (window(ended_at=None), ago(690), NOW),
        (window(ended_at=ago(10)), ago(688.5), NOW),
    ],
)
def test_from_the_deployment_or_the_onset_until_after_the_end(shown: Window, start: datetime, end: datetime) -> None:
    assert span(shown, NOW) == (start, end)
