"""The containers of a Compose service, by the place that each of them has or is waiting for."""

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
    """The place of one container of the service: what has its name, and what waits beside it."""

    name: str
    number: int
    current: Object | None = None
    before: list[Object] = field(default_factory=list)  # replaced, not yet copied; the latest last
    next: list[Object] = field(default_factory=list)  # created by the responder, not yet in place
    left: list[Object] = field(default_factory=list)  # replaced, and it could not be copied
    kept: list[Object] = field(default_factory=list)  # copies for study, invisible to Compose

    @property
    def pattern(self) -> Object:
        """The container whose settings count: between two renames it is the one just taken out."""
        found = self.current or (self.before[-1] if self.before else None)
        if found is None:
            raise StepFailed(f"there is no container {self.name}")
        return found

    @property
    def stops_within(self) -> float:
        """Seconds from TERM to KILL, as the container wants it; 10 are the Engine's default."""
        return float(self.pattern["Config"].get("StopTimeout") or 10)

    @property
    def tidy(self) -> bool:
        """Whether Compose sees one container here, and no other that it could start or choose instead."""
        return not self.before and not self.next

    def next_name(self) -> str:
        """A name for a container that is to take this place, of which no other try makes use."""
        return f"{self.name}_next_{secrets.token_hex(6)}"

    def named(self, role: str, container: Object) -> str:
        """The name of a container that waits beside this place."""
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


def waits_for_a_place(container: Object) -> bool:
    """Whether it was made to take the place of another one, and has not taken it."""
    return _parts(container["Name"].lstrip("/"))[1] == "next"


def _parts(name: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.+)_(was|next|left|kept)_[0-9a-f]{12}", name)
    return (found[1], found[2]) if found else (name, "")
