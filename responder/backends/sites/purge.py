"""Emptying what a CDN holds: a move that nobody can take back, and that is made again whenever it is in doubt."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from typing import Generic, TypeVar

from pydantic import Field, JsonValue

from responder.backends.accessible import C
from responder.backends.resource import Resource
from responder.backends.sites.cdn_client import Cdn

D = TypeVar("D", bound=Cdn)


class Purge(Resource[C, JsonValue], Generic[C]):
    """Its value is the reference of the request that emptied it; None means that this one was not needed.

    Once done it stays done, so there is nothing to drift from: every value is the same, and only `settled` tells
    whether it is still to be done.
    """

    mark: str = Field(default="", description="Set by the responder: the execution")
    on_way_back: bool = Field(default=False, description="Set by the responder: done only where all is turned back")

    @property
    @abstractmethod
    def _what(self) -> JsonValue:
        """What is emptied, for the reference."""

    @property
    def reference(self) -> str:
        """The same for the same purge of the same rollback, whoever asks and however often."""
        identity = [self.mark, self.on_way_back, self._what]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:40]

    def same(self, found: JsonValue, value: JsonValue) -> bool:
        return True

    def describe(self, value: JsonValue) -> str:
        return "as it is" if value is None else "emptied"

    @property
    @abstractmethod
    def _name(self) -> str: ...

    def __str__(self) -> str:
        return f"{self._name}{', should this be turned back' if self.on_way_back else ''}"


class RememberedPurge(Purge[D], Generic[D]):
    """Where nobody keeps books of purges: our own connection remembers, and after a crash it is done once more."""

    async def read(self, client: D) -> JsonValue:
        return self.reference if self.reference in client.purged else None

    async def converged(self, client: D, value: JsonValue) -> bool:
        return value is None or value in client.purged

    async def write(self, client: D, value: JsonValue, *, expected: JsonValue) -> None:
        if value is not None:
            await self._purge(client)
            client.purged.add(str(value))

    @abstractmethod
    async def _purge(self, client: D) -> None: ...
