"""Rate-limited logging of events that any client can cause."""

from __future__ import annotations

import time
from collections.abc import Callable


class Sparingly:
    """Writes one line per minute and kind of event, with the number of suppressed lines before it.

    `write` takes the event and its fields.
    """

    def __init__(
        self, write: Callable[..., None], clock: Callable[[], float] = time.monotonic, *, every: float = 60
    ) -> None:
        self._write, self._clock, self._every = write, clock, every
        self._last: dict[str, tuple[float | None, int]] = {}

    def warn(self, event: str, kind: str, /, **fields: object) -> None:
        """Writes a line, unless one of this event and kind was written within the last minute. Use few kinds."""
        now, (last, left_out) = self._clock(), self._last.get(f"{event} {kind}", (None, 0))
        if last is not None and now - last < self._every:
            self._last[f"{event} {kind}"] = (last, left_out + 1)
            return
        self._last[f"{event} {kind}"] = (now, 0)
        self._write(event, **fields, **({"left_out": left_out} if left_out else {}))
