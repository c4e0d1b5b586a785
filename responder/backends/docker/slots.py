"""The containers of a Compose service, by the slot that each of them occupies or waits for."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

from responder.backends.docker.client import Docker, Object
from responder.backends.docker.containers import KEPT, labels_of
from responder.errors import StepFailed

COMPOSE = "com.docker.compose"


@dataclass
class Slot:
    """The slot of one container of the service: the container with its name, and those beside it."""

    name: str
    number: int
    current: Object | None = None
    before: list[Object] = field(default_factory=list)  # replaced, not yet copied; the latest last
    next: list[Object] = field(default_factory=list)  # created by the responder, not yet in place
    left: list[Object] = field(default_factory=list)  # replaced, but could not be copied
    kept: list[Object] = field(default_factory=list)  # copies for study, invisible to Compose

    @property
    def pattern(self) -> Object:
        """The container whose settings count; between two renames, the one that was renamed first."""
        found = self.current or (self.before[-1] if self.before else None)
        if found is None:
            raise StepFailed(f"container {self.name} does not exist")
        return found

    @property
    def stops_within(self) -> float:
        """Seconds from SIGTERM to SIGKILL in the container's settings; the engine's default is 10."""
        return float(self.pattern["Config"].get("StopTimeout") or 10)

    @property
    def tidy(self) -> bool:
        """Whether Compose sees one container here, and no other that it could start or choose instead."""
        return not self.before and not self.next

    def next_name(self) -> str:
        """A name for a container that will take this slot; no other attempt uses it."""
        return f"{self.name}_next_{secrets.token_hex(6)}"

    def named(self, role: str, container: Object) -> str:
        """The name of a container that waits beside this slot."""
        return f"{self.name}_{role}_{container['Id'][:12]}"


async def slots_of(
    docker: Docker, project: str, service: str, number: int | None = None, *, kept: bool = False
) -> list[Slot]:
    """The containers of the service by number, or only the given number; empty if there are none.

    `kept`: also find kept copies.
    """
    labels = {f"{COMPOSE}.project": project, f"{COMPOSE}.service": service, f"{COMPOSE}.oneoff": "False"}
    slots: dict[str, Slot] = {}
    for container in await docker.containers(labels):
        of_it = int(labels_of(container).get(f"{COMPOSE}.container-number", 1))
        if number not in (None, of_it):
            continue
        name, role = _parts(container["Name"].lstrip("/"))
        slot = slots.setdefault(name, Slot(name, of_it))
        match role:
            case "was":
                slot.before.append(container)
            case "next":
                slot.next.append(container)
            case "left":
                slot.left.append(container)
            case _:
                slot.current = container
    for container in await docker.containers({KEPT: f"{project}/{service}"}) if kept else ():
        name, _ = _parts(container["Name"].lstrip("/"))
        if name in slots:
            slots[name].kept.append(container)
    for slot in slots.values():
        slot.before.sort(key=lambda c: str(c["State"].get("FinishedAt", "")))
    return sorted(slots.values(), key=lambda slot: slot.number)


def waits_for_slot(container: Object) -> bool:
    """Whether it was created to replace another container, and has not replaced it yet."""
    return _parts(container["Name"].lstrip("/"))[1] == "next"


def _parts(name: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.+)_(was|next|left|kept)_[0-9a-f]{12}", name)
    return (found[1], found[2]) if found else (name, "")
