"""The law of every resource: read after write; writing twice is writing once; writing `was` back restores."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic

from pydantic import JsonValue

from responder.backends.accessible import Accessible, C
from responder.errors import Drift


class Resource(Accessible[C], Generic[C]):
    """Something of the outside world that can be read and set. Its fields say which one; they hold no secrets.

    Its verbs are handed the connected `client` that the resource names; what goes wrong there comes out as
    `Unavailable` (try again), `Halt` (turn back) or `Drift` (freeze).
    """

    @property
    def timeout(self) -> float:
        """Seconds that one read or write of it is worth, retries included."""
        return 30.0

    @property
    def reads_within(self) -> float:
        """Seconds that one read is worth, where a write may take much longer."""
        return self.timeout

    @property
    def converge_timeout(self) -> float:
        """Seconds that the world may take to follow a write."""
        return self.timeout

    @abstractmethod
    async def read(self, client: Any) -> JsonValue:
        """The value now; None where nothing is set."""

    @abstractmethod
    async def write(self, client: Any, value: JsonValue, *, expected: JsonValue) -> None:
        """Sets the value, from `was` or from a half-done earlier try. Anything else found there is `Drift`.

        It may be called again after a crash at any line, so it begins by looking at what is there.
        """

    async def converged(self, client: Any, value: JsonValue) -> bool:
        """Whether the world has finished following the value. Raises `Halt` where it never will."""
        return self.same(await self.read(client), value)

    async def assist(self, client: Any, value: JsonValue) -> None:
        """Helps a world along that does not follow by itself; called between two looks, so often, and after crashes."""

    def same(self, found: JsonValue, value: JsonValue) -> bool:
        """Whether what was found is this value."""
        return found == value

    def equivalent(self, found: JsonValue, value: JsonValue) -> bool:
        """Whether what was found is as good as this value to somebody who asks whether it was moved."""
        return self.same(found, value)

    def must_be(self, found: JsonValue, *values: JsonValue) -> None:
        """Raises `Drift` where what was found is none of the values that we know of."""
        if not any(self.equivalent(found, value) for value in values):
            expected = ", nor ".join(repr(value) for value in values)
            raise Drift(f"{self} is {found!r}, neither {expected}: somebody else moved it")

    async def last_modified_by(self, client: Any) -> str:
        """Who set it last, where the outside keeps books of that; empty where not."""
        return ""

    async def value_of(self, client: Any, version: str, artifact: str) -> JsonValue:
        """The value that stands for a version of the service. Raises `Halt` where there is none any more."""
        return version

    async def runs(self, client: Any, found: JsonValue, version: str, artifact: str) -> bool:
        """Whether the value that was found is that version."""
        return found == version

    async def preflight(self, client: Any, value: JsonValue) -> tuple[str, ...]:
        """Looks for all that would keep the value from being set, and changes nothing.

        Returns what people should know about it. Raises `Halt` where something stands in the way.
        """
        return ()

    def describe(self, value: JsonValue) -> str:
        """The value in an engineer's words."""
        return str(value)

    @abstractmethod
    def __str__(self) -> str:
        """The resource in an engineer's words, as `current release of /srv/shop`."""
