"""Purges of a CDN cache. A purge cannot be reverted, and is repeated if its outcome is unknown."""

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
    """The value is the reference of the purge; None: no purge is needed.

    A purge cannot drift: all values are the same, and only `converged` shows whether it is still needed.
    """

    mark: str = Field(default="", description="Set by the responder: the execution")
    on_way_back: bool = Field(default=False, description="Set by the responder: purge only when reverting")

    @property
    @abstractmethod
    def _scope(self) -> JsonValue:
        """The part of the cache that is purged, for the reference."""

    @property
    def reference(self) -> str:
        """An ID that is the same for the same purge in the same rollback, on every replica."""
        identity = [self.mark, self.on_way_back, self._scope]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:40]

    def same(self, found: JsonValue, value: JsonValue) -> bool:
        return True

    def describe(self, value: JsonValue) -> str:
        return "unchanged" if value is None else "purged"

    @property
    @abstractmethod
    def _name(self) -> str: ...

    def __str__(self) -> str:
        return f"{self._name}{', when reverting' if self.on_way_back else ''}"


class RememberedPurge(Purge[D], Generic[D]):
    """A purge that the CDN keeps no record of. The client remembers it; after a crash it is repeated."""

    async def read(self, client: D) -> JsonValue:
        return self.reference if self.reference in client.purged else None

    async def converged(self, client: D, value: JsonValue) -> bool:
        return value is None or value in client.purged

    async def write(self, client: D, value: JsonValue, *, expected: JsonValue) -> None:
        if value is not None and value not in client.purged:
            await self._purge(client)
            client.purged.add(str(value))

    @abstractmethod
    async def _purge(self, client: D) -> None: ...
