"""The table of strategies under the crash harness: adding a strategy adds one entry here, and gets all the drills."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from responder.backends.host.client import Local
from responder.backends.resource import Resource
from responder.services.service import Service

_HEALTHY = [{"http": "http://shop/health"}]


@dataclass(frozen=True)
class RollbackScenario:
    """A small world of its own in a directory, in which a bad version runs."""

    service: Service
    beside: tuple[Service, ...] = field(default=(), kw_only=True)  # rolled back with it, between the same versions
    from_version: str
    to_version: str
    outside: Callable[[], Any]  # everything that a rollback may change, and what follows it
    rolled_back: Any  # `outside` after success
    stranger: Callable[
        [Resource], Awaitable[Any]
    ]  # sets a resource to what others might, and returns it; None: nobody can
    clients: dict[type, Any] = field(default_factory=lambda: {Local: Local()})
    written: Callable[[], Any] = lambda: None  # what our resources set, to count how often it changes
    wait: Callable[[float], None] = lambda seconds: None  # lets time go by there
    begun: Callable[[], None] = lambda: None  # a process begins there, and remembers nothing of the one before
    leave: Callable[[], Awaitable[None]] | None = None  # lets go of what it holds
    served: Callable[[str], bytes] = lambda url: b""  # what clients get there
    outcome: str = "succeeded"

    @property
    def before(self) -> Any:
        """`outside` before anything was done, and again after it was turned back."""
        return self._before

    def __post_init__(self) -> None:
        object.__setattr__(self, "_before", self.outside())


def shop(
    rollback: dict[str, Any], health_checks: Any, *, outside: Callable[[], Any], rolled_back: Any, **more: Any
) -> RollbackScenario:
    """The service `shop`, whose version 2 is bad. Of an `outside` with names, `rolled_back` says what differs after."""
    options = {"name": "shop", "environment": "test", "rollback": rollback, "health_checks": health_checks}
    before = outside()
    after = {**before, **rolled_back} if isinstance(before, dict) else rolled_back
    service = Service.model_validate(options)
    return RollbackScenario(
        service=service, from_version="2", to_version="1", outside=outside, rolled_back=after, **more
    )


def _release(root: Path, current: str, *others: str) -> dict[str, Any]:
    for version in (current, *others):
        (root / "releases" / version).mkdir(parents=True)
    (root / "current").symlink_to(f"releases/{current}")
    (root / "followed").write_text(current)
    # What runs is what the restart command saw: a crash between the switch and the restart must not go unnoticed.
    return {"root": str(root), "restart": ["/bin/sh", "-c", "basename $(readlink current) > followed"]}


def _stranger(resource: Resource) -> Awaitable[Any]:
    async def act() -> Any:
        quiet = resource.model_copy(update={"restart": None})
        await quiet.write(Local(), "hotfix", expected=await resource.read(Local()))
        return await resource.read(Local())

    return act()


def _runs(root: Path) -> tuple[str, str]:
    return (root / "current").readlink().name, (root / "followed").read_text().strip()


def immediate(directory: Path) -> RollbackScenario:
    root = directory / "shop"
    return shop(
        {"strategy": "immediate", "release": _release(root, "2", "1", "hotfix")},
        _HEALTHY,
        outside=lambda: _runs(root),
        rolled_back=("1", "1"),
        stranger=_stranger,
        written=lambda: (root / "current").readlink(),
    )


def blue_green(directory: Path) -> RollbackScenario:
    blue, green, pointer = directory / "blue", directory / "green", directory / "live"
    pointer.write_text("green\n")
    color = {"ready": [{"http": "http://idle/health"}]}
    rollback = {
        "strategy": "blue_green",
        "pointer": {"file": str(pointer), "restart": ["/bin/sh", "-c", f"cp {pointer} {directory}/proxied"]},
        "colors": {
            "blue": {**color, "release": _release(blue, "0", "1", "hotfix")},
            "green": {**color, "release": _release(green, "2", "1", "hotfix")},
        },
        "ready_for": "0s",
        "ready_within": "3s",
    }
    (directory / "proxied").write_text("green\n")

    def outside() -> Any:
        return (_runs(blue), _runs(green), pointer.read_text().strip(), (directory / "proxied").read_text().strip())

    return shop(
        rollback,
        _HEALTHY,
        outside=outside,
        rolled_back=(("1", "1"), ("2", "2"), "blue", "blue"),
        stranger=_stranger,
        written=lambda: ((blue / "current").readlink(), (green / "current").readlink(), pointer.read_text()),
    )


def together(directory: Path) -> RollbackScenario:
    """The shop and the cart that needs it, in one rollback."""
    shop_root, cart_root = directory / "shop", directory / "cart"
    strategy = {"strategy": "immediate", "release": _release(cart_root, "2", "1", "hotfix")}
    cart = {
        "name": "cart",
        "environment": "test",
        "rollback": strategy,
        "health_checks": _HEALTHY,
        "depends_on": ["shop"],
    }
    return shop(
        {"strategy": "immediate", "release": _release(shop_root, "2", "1", "hotfix")},
        _HEALTHY,
        outside=lambda: (_runs(cart_root), _runs(shop_root)),
        rolled_back=(("1", "1"), ("1", "1")),
        stranger=_stranger,
        written=lambda: ((cart_root / "current").readlink(), (shop_root / "current").readlink()),
        beside=(Service.model_validate(cart),),
    )


STAGES: dict[str, Callable[[Path], RollbackScenario]] = {
    "immediate": immediate,
    "blue_green": blue_green,
    "together": together,
}
