"""Hides a replaced container from Compose, and keeps its files, log and volumes."""

from __future__ import annotations

import asyncio
import io
import logging
import tarfile
from datetime import UTC, datetime, timedelta

from responder.backends.docker.client import Docker, Object
from responder.backends.docker.containers import (
    ORIGINAL,
    carried_files,
    copy_of,
    image_name_of,
    image_of,
    labels_of,
    wrote_files,
)
from responder.backends.docker.slots import Slot
from responder.errors import LeaseLost, StepFailed
from responder.transport.acting import acting

log = logging.getLogger("responder.docker")

LOG_FILE = "rollback-responder.log"
"""File in the root of a kept copy: the end of the original's log."""
_LOG_LINES, _LOG_BYTES = 20_000, 4 << 20
_INJECTED_AT_MOST = 1 << 20
"""Bytes of one file that Compose copies into a container; a secret or a config of Swarm has at most half of it."""

_LOOKED_AT = 1000
"""Maximum number of changed files that are examined, those nearest to the root first."""
_REMOVED = 2


async def put_away(docker: Docker, slot: Slot, service: str, mark: str) -> None:
    """Leaves one container in the slot that Compose sees. It can be called again after a crash.

    Compose counts every container with its labels, whatever its name and state, and labels cannot be changed. So a
    replaced container is kept as a copy without those labels.
    """
    for container in slot.next:
        await docker.remove(container["Id"])
    for container in slot.before:
        if _never_started(container):
            await docker.remove(container["Id"])
            continue
        try:
            await _keep(docker, slot, container, service, mark)
        except StepFailed as failure:  # a missing copy for study does not justify a revert
            log.warning(
                "container not copied", extra={"container": container["Name"].lstrip("/"), "reason": str(failure)}
            )
            await docker.set_restart_policy(container["Id"], {"Name": "no"})
            await docker.rename(container["Id"], slot.named("left", container))
    for copy in slot.kept:
        if slot.current and labels_of(copy)[ORIGINAL] == slot.current["Id"]:  # reverted before it was removed
            await docker.remove(copy["Id"])


async def _keep(docker: Docker, slot: Slot, container: Object, service: str, mark: str) -> None:
    copy = next((kept["Id"] for kept in slot.kept if labels_of(kept)[ORIGINAL] == container["Id"]), None)
    if copy is None:
        changes = await docker.changes(container["Id"])
        files = await injected(docker, container, changes)
        wrote = wrote_files(container, changes)
        image = await docker.commit(container["Id"]) if wrote else await reference(docker, container)
        committed = wrote or container["Image"] != image_of(container)
        sources = await volume_sources(docker, container)
        body = copy_of(container, service, image, committed=committed, files=files, sources=sources, mark=mark)
        copy = await docker.create(slot.named("kept", container), body)
    await docker.unpack(copy, await _log_of(docker, container["Id"]))
    await docker.remove(container["Id"])


async def create_next(docker: Docker, slot: Slot, config: Object, files: list[str]) -> Object:
    """Creates the container that will take a slot, with these files of the current one.

    A process that lost its lease meanwhile leaves none behind.
    """
    for leftover in slot.next:  # of an earlier attempt, or of another replica that may remove it itself
        await docker.remove(leftover["Id"])
    made = await docker.create(slot.next_name(), config)
    try:
        acting.get()()
    except LeaseLost:
        await docker.discard(made)
        raise
    await _carry_over(docker, slot.pattern, files, made)
    found = await docker.container(made)
    if found is None:
        raise StepFailed(f"the new container for {slot.name} disappeared right after it was created")
    return found


def _never_started(container: Object) -> bool:
    return str(container["State"].get("StartedAt", "")).startswith("0001")


async def volume_sources(docker: Docker, container: Object) -> list[Object]:
    """The containers in its `VolumesFrom` that still exist."""
    names = [entry.split(":")[0] for entry in container["HostConfig"].get("VolumesFrom") or ()]
    return [found for name in names if (found := await docker.container(name))]


async def reference(docker: Docker, container: Object) -> str:
    """The reference of its image: the name, which shows the version, or the ID if the name was moved."""
    image, name = str(container["Image"]), image_name_of(container)
    named = await docker.image(name)
    return name if named and named["Id"] == image else image


async def injected(docker: Docker, container: Object, changes: list[Object] | None = None) -> list[str]:
    """The paths of files that Compose copied into the container: secrets and configs with inline content.

    The settings of the container do not name them. They are files of its writable layer with a time in whole seconds
    between its creation and its last start, because the engine's archive call wrote them. Compose rounds that time to
    the nearest second, so it may be up to half a second late.
    """
    if container["HostConfig"].get("ReadonlyRootfs"):
        return []  # Compose refuses to copy into those
    known = carried_files(container)
    changes = await docker.changes(container["Id"]) if changes is None else changes
    paths = [change["Path"] for change in changes if change["Kind"] != _REMOVED and change["Path"] not in known]
    paths = sorted(paths, key=lambda path: path.count("/"))[:_LOOKED_AT]  # by default these files are in the root
    stats = await asyncio.gather(*(docker.stat(container["Id"], path) for path in paths))
    return known + [path for path, stat in zip(paths, stats, strict=True) if stat and _is_injected(container, stat)]


_ROUNDED_BY = timedelta(seconds=0.5)


def _is_injected(container: Object, stat: Object) -> bool:
    if stat["mode"] > 0o777 or stat["size"] > _INJECTED_AT_MOST:  # a directory, a link, or too large
        return False
    created, started, modified = (
        datetime.fromisoformat(timestamp)
        for timestamp in (container["Created"], container["State"]["StartedAt"], stat["mtime"])
    )
    return modified.microsecond == 0 and created.replace(microsecond=0) <= modified <= started + _ROUNDED_BY


async def _carry_over(docker: Docker, container: Object, paths: list[str], to: str) -> None:
    """Copies files from one container into another one, with their owners and modes."""
    if not paths:
        return
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as out:
        for path in paths:
            content = await docker.archive(container["Id"], path)
            if content is None:
                raise StepFailed(
                    f"{path} no longer exists in container {container['Name'].lstrip('/')}, which got it from Compose"
                )
            with tarfile.open(fileobj=io.BytesIO(content)) as found:
                entry = found.next()
                if entry is None or not entry.isreg():
                    continue
                data = found.extractfile(entry)
                entry.name = path.lstrip("/")
                out.addfile(entry, data)
    await docker.unpack(to, packed.getvalue())


async def _log_of(docker: Docker, container: str) -> bytes:
    """An archive with the end of the container's log, or with the engine's error if the log driver is unreadable."""
    kept = bytearray()
    try:
        async for line in docker.log(container, since=datetime.fromtimestamp(0, UTC), lines=_LOG_LINES):
            kept += line
            del kept[:-_LOG_BYTES]
    except StepFailed as failure:
        kept += f"{failure}\n".encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as out:
        entry = tarfile.TarInfo(LOG_FILE)
        entry.size, entry.mtime = len(kept), int(datetime.now(UTC).timestamp())
        out.addfile(entry, io.BytesIO(kept))
    return packed.getvalue()
