"""The interface of a resource: a value in an outside system that can be read and written.

`capabilities.py` has what only some resources can do.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic

from typing_extensions import TypeVar

from responder.backends.accessible import Accessible, C
from responder.errors import Drift

V = TypeVar("V", default=Any)


class Resource(Accessible[C], Generic[C, V]):
    """One value of type `V`, reached through a client of class `C`. A value is JSON; None: nothing is set.

    Law: a read after a write returns the written value; a second write of the same value changes nothing; writing the
    first value again restores it. Errors are Unavailable (retry), StepFailed (revert) and Drift (freeze).
    """

    @property
    def timeout(self) -> float:
        """Deadline of one write in seconds, retries included."""
        return 30.0

    @property
    def read_timeout(self) -> float:
        """Deadline of one read in seconds, retries included."""
        return self.timeout

    @property
    def converge_timeout(self) -> float:
        """Deadline in seconds for the outside system to converge after a write."""
        return self.timeout

    @abstractmethod
    async def read(self, client: C) -> V:
        """Returns the current value."""

    @abstractmethod
    async def write(self, client: C, value: V, *, expected: V) -> None:
        """Sets the value. Raises Drift if the current value is neither `expected` nor an unfinished earlier write.

        It may be called again after a crash at any line, so it first reads the current state.
        """

    def describe(self, value: V) -> str:
        """The value in an engineer's words; `none` if nothing is set."""
        return "none" if value is None else str(value)

    @abstractmethod
    def __str__(self) -> str:
        """The resource in an engineer's words, as `current release of /srv/shop`."""

    def same(self, found: V, value: V) -> bool:
        """Whether two values are the same."""
        return found == value

    def equivalent(self, found: V, value: V) -> bool:
        """Whether a found value is not drift from the expected one. The same value is always equivalent."""
        return self.same(found, value)

    def must_be(self, found: V, *values: V) -> None:
        """Raises Drift if the found value is equivalent to none of the given ones."""
        if not any(self.equivalent(found, value) for value in values):
            expected = ", nor ".join(repr(value) for value in values)
            raise Drift(f"{self} is {found!r}, neither {expected}: changed by someone else")
