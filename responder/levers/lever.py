"""The law of every lever: read after write; writing twice is writing once; writing `was` back restores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, JsonValue


class Lever(BaseModel, ABC):
    """Something of the outside world that can be read and set. Its fields say which one; they hold no secrets.

    The three verbs are handed the connected `client` that the lever names; what goes wrong there comes out as
    `Unavailable` (try again), `Halt` (turn back) or `Drift` (freeze).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    client: ClassVar[type[Any]]

    @property
    def patience(self) -> float:
        """Seconds that one read or write of it is worth, retries included."""
        return 30.0

    @abstractmethod
    async def read(self, client: Any) -> JsonValue:
        """The value now; None where nothing is set."""

    @abstractmethod
    async def write(self, client: Any, value: JsonValue, *, was: JsonValue) -> None:
        """Sets the value, from `was` or from a half-done earlier try. Anything else found there is `Drift`.

        It may be called again after a crash at any line, so it begins by looking at what is there.
        """

    async def settled(self, client: Any, value: JsonValue) -> bool:
        """Whether the world has finished following the value; where it has not, it is written once more."""
        return await self.read(client) == value

    @abstractmethod
    def __str__(self) -> str:
        """The lever in an engineer's words, as `current release of /srv/shop`."""
