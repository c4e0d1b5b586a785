"""The latest results of every check. Failures are kept longer, because people look for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from itertools import chain

from exporters.runner import Result

KEEP_SUCCESSES, KEEP_FAILURES = 3, 10


class History:
    """Up to 3 successes and 10 failures of each check, in memory."""

    def __init__(self) -> None:
        self._successes: dict[str, deque[Result]] = {}
        self._failures: dict[str, deque[Result]] = {}

    def record(self, result: Result) -> bool:
        """Adds a result. Returns whether the outcome of the check changed; an unknown check counts as succeeding."""
        before = self.latest(result.check_id)
        results, size = (self._successes, KEEP_SUCCESSES) if result.success else (self._failures, KEEP_FAILURES)
        results.setdefault(result.check_id, deque(maxlen=size)).append(result)
        return result.success != (True if before is None else before.success)

    def of(self, check_id: str) -> list[Result]:
        """Returns the results of a check, latest first."""
        results = chain(self._successes.get(check_id, ()), self._failures.get(check_id, ()))
        return sorted(results, key=lambda result: result.at, reverse=True)

    def latest(self, check_id: str) -> Result | None:
        """Returns the latest result of a check, or None before the first."""
        last = [results[check_id][-1] for results in (self._successes, self._failures) if check_id in results]
        return max(last, key=lambda result: result.at, default=None)

    def forget_all_but(self, check_ids: Collection[str]) -> None:
        """Drops the results of every other check."""
        for results in (self._successes, self._failures):
            for check_id in results.keys() - set(check_ids):
                del results[check_id]
