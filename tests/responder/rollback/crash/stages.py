"""The table of strategies for the crash harness: one entry per strategy runs all drills."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from responder.backends.host.client import Local
from responder.backends.resource import Resource
from responder.services.service import Service
from tests.contents.files import tree

_HEALTHY = [{"http": "http://shop/health"}]


@dataclass(frozen=True)
class Everything:
    """Everything outside, with or without a relation to the rollback.

    `changes`: paths that the plan changes. `may_differ`: what else its changes touch, each with the reason. `stays`:
    paths that differ after a revert, each with the reason.
    """

    contents: Callable[[], Any]
    changes: Collection[str]
    may_differ: Mapping[str, str] = field(default_factory=dict)
    stays: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RollbackScenario:
    """An isolated setup in a directory, in which a bad version runs."""

    service: Service
    beside: tuple[Service, ...] = field(default=(), kw_only=True)  # rolled back with it, between the same versions
    from_version: str
    to_version: str
    outside: Callable[[], Any]  # everything that a rollback may change, and its consequences
    rolled_back: Any  # `outside` after success
    everything: Everything
    stranger: Callable[
        [Resource], Awaitable[Any]
    ]  # sets a resource to a value of someone else, and returns it; None: not possible
    clients: dict[type, Any] = field(default_factory=lambda: {Local: Local()})
    written: Callable[[], Any] = lambda: None  # the values that the resources set, to count their changes
    wait: Callable[[float], None] = lambda seconds: None  # lets time pass there
    begun: Callable[[], None] = lambda: None  # starts a process without the memory of the earlier one
    leave: Callable[[], Awaitable[None]] | None = None  # releases its resources
    served: Callable[[str], bytes] = lambda url: b""  # the responses that clients get
    outcome: str = "succeeded"

    @property
    def before(self) -> Any:
        """`outside` before the rollback, and again after it was reverted."""
        return self._before

    def __post_init__(self) -> None:
        object.__setattr__(self, "_before", self.outside())


def shop(
    rollback: dict[str, Any], health_checks: Any, *, outside: Callable[[], Any], rolled_back: Any, **more: Any
) -> RollbackScenario:
    """The service `shop`, whose version 2 is bad. If `outside` has names, `rolled_back` lists the differences."""
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
    (root / "followed").write_text(f"{current}\n")
    # The restart command records the running version, so that a crash before the restart is noticed.
    return {"root": str(root), "restart": ["/bin/sh", "-c", "basename $(readlink current) > followed"]}


def _files(directory: Path, *changed: str) -> Everything:
    """The directory, of which the plan changes these files and links."""
    changes = [f"/{name.replace('/', '~1')}/{part}" for name in changed for part in ("target", "content")]
    times = {change.rpartition("/")[0] + "/changed": "it is written anew" for change in changes}
    return Everything(lambda: tree(directory), changes, times)


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
        everything=_files(directory, "shop/current", "shop/followed"),
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
        everything=_files(directory, "blue/current", "blue/followed", "live", "proxied"),
        stranger=_stranger,
        written=lambda: ((blue / "current").readlink(), (green / "current").readlink(), pointer.read_text()),
    )


def together(directory: Path) -> RollbackScenario:
    """The shop, and the cart that depends on it, in one rollback."""
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
        everything=_files(
            directory, *(f"{name}/{file}" for name in ("shop", "cart") for file in ("current", "followed"))
        ),
        stranger=_stranger,
        written=lambda: ((cart_root / "current").readlink(), (shop_root / "current").readlink()),
        beside=(Service.model_validate(cart),),
    )


STAGES: dict[str, Callable[[Path], RollbackScenario]] = {
    "immediate": immediate,
    "blue_green": blue_green,
    "together": together,
}
