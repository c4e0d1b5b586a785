"""A store that runs an action of the test at a chosen step of a snapshot, such as killing a process."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from responder.backends.postgres.snapshots.client import Snapshots
from responder.backends.postgres.snapshots.dump import SnapshotRequest
from responder.backends.postgres.snapshots.store import SnapshotStore
from responder.transport.object_store import DirectoryStore, Stored
from responder.transport.s3_store import S3Store
from tests.responder.backends.postgres.snapshots.conftest import settings_of

STEPS = (
    "it begins",
    "schema is begun",
    "half of the data is there",
    "the data is there",
    "half of the data is read back",
    "half of the data is restored",
    "all but the manifest is there",
    "the manifest is there",
)


class InterruptingStore:
    """Forwards everything to a store."""

    def __init__(self, store: Any, at: str, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._store, self._at, self._act = store, at, act
        self._read: dict[str, int] = {}
        self.sprung: asyncio.Task[None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def _pass(self, step: str) -> None:
        assert step in STEPS
        if step == self._at and not self.sprung:
            self.sprung = asyncio.ensure_future(self._act())
            await asyncio.shield(self.sprung)  # the killed process may cancel this task first

    async def clear(self, prefix: str) -> None:
        await self._pass("it begins")
        await self._store.clear(prefix)

    async def put(self, name: str, blocks: AsyncIterator[bytes]) -> Stored:
        manifest, data = name.endswith(".json"), "/data-" in name
        if not data:
            await self._pass("all but the manifest is there" if manifest else "schema is begun")

        async def watched() -> AsyncIterator[bytes]:
            number = 0
            async for block in blocks:
                number += 1
                if data and number == 3:
                    await self._pass("half of the data is there")
                yield block

        stored: Stored = await self._store.put(name, watched())
        if data or manifest:
            await self._pass("the data is there" if data else "the manifest is there")
        return stored

    async def get(self, name: str) -> AsyncIterator[bytes]:
        again = self._read[name] = self._read.get(name, 0) + 1
        back = again == 1 and isinstance(self._store, DirectoryStore)  # the checksums of S3 suffice
        number = 0
        async for block in self._store.get(name):
            yield block
            number += 1
            if "/data-" in name and number == 1:
                await self._pass(f"half of the data is {'read back' if back else 'restored'}")


def set_trap(snapshots: Snapshots, at: str, act: Callable[[], Coroutine[Any, Any, None]]) -> InterruptingStore:
    store = snapshots.stores["kept"]
    in_small_parts(store)
    store.objects = InterruptingStore(store.objects, at, act)  # type: ignore[assignment]
    return store.objects  # type: ignore[return-value]


def in_small_parts(store: SnapshotStore) -> None:
    if isinstance(store.objects, S3Store):
        store.objects._part = 5 << 20  # the minimum of S3


async def _main(file: Path) -> None:
    """A separate process that kills itself at the step."""
    orders = json.loads(file.read_text())

    async def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    snapshots = await Snapshots.connect(settings_of(orders["settings"]))
    set_trap(snapshots, orders["at"], die)
    await snapshots.create("kept", SnapshotRequest.model_validate(orders["request"]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
