from __future__ import annotations

import html.parser
from typing import Any

from exporters.history import History
from exporters.runner import Result
from exporters.web import page


def failed(check_id: str, why: str) -> Result:
    return Result(check_id, False, "status", why, 100.0, 0.25, 5.0, ((0.001, why),))


def test_failing_checks_are_first_with_their_reason(make: Any) -> None:
    history = History()
    history.record(Result("fine", True, "", "", 100.0, 0.001, 5.0, ()))
    history.record(failed("sick", "status is 500"))
    checks = [make(id=name, type="tcp", address="h:1") for name in ("fine", "unseen", "sick")]
    text = page.overview(checks, history, 160.0)
    assert text.index("/?check=sick") < text.index("/?check=fine") < text.index("/?check=unseen")
    assert "Checks: 3, 1 failing, 1 not probed yet" in text
    assert "status is 500" in text
    html.parser.HTMLParser().feed(text)


def test_answers_of_targets_are_escaped(make: Any) -> None:
    history = History()
    history.record(failed("it", "<script>alert(1)</script> {why} $title"))
    check = make(type="tcp", address="h:1", labels={"x": "<b>"})
    for text in (page.overview([check], history, 101.0), page.detail(check, "h:1", history.of("it"), 101.0)):
        assert "<script" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt; {why} $title" in text


def test_a_check_without_results_is_pending(make: Any) -> None:
    assert "Not probed yet" in page.detail(make(type="tcp", address="h:1"), "h:1", [], 0.0)
