"""Clients of outside systems, connected on first use and shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, Self, TypeVar

from responder.errors import StepFailed


class Client(Protocol):
    """A client of one outside system. Connecting is cheap: an SDK is imported on first use.

    Optional attributes of the class:

    - `setting`: the key of the configuration whose value `connect` receives, such as `cdn.fastly`; default: None.
    - `needs`: what a user must configure there, such as "a token"; default: nothing.
    - `package` and `extra`: the package that it imports, and the extra of this distribution that installs it.
    - `imports`: the modules that its first use imports; default: `package`.
    """

    @classmethod
    async def connect(cls, settings: Any) -> Self: ...

    async def close(self) -> None: ...


C = TypeVar("C", bound=Client)


def missing_package(kind: type[Any]) -> str:
    """Returns what to install before this client can be used; empty if nothing is missing."""
    package: str | None = getattr(kind, "package", None)
    if package is None or _is_there(package):
        return ""
    extra = getattr(kind, "extra", kind.__name__.lower())
    return f"needs the package {package}; pip install 'rollback-responder[{extra}]'"


def import_packages(kinds: Iterable[type[Any]]) -> None:
    """Imports what the first use of these clients would import. Takes seconds, so call it in a thread."""
    for kind in kinds:
        package: str | None = getattr(kind, "package", None)
        for module in getattr(kind, "imports", (package,) if package else ()):
            with suppress(ImportError):  # `missing_package` and the first use report it
                import_module(module)


def missing_settings(kind: type[Any], settings: Any) -> str:
    """Returns what to configure before this client can be used; empty if nothing is missing."""
    needs = getattr(kind, "needs", "")
    return f"needs {needs}; configure {kind.setting}" if needs and settings is None else ""


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # a package inside a missing package
        return False


class Connections:
    """One client per class, connected on first use and shared. `settings`: the settings of a class; default: None."""

    def __init__(self, settings: Callable[[type[Any]], Any] = lambda kind: None) -> None:
        self._settings = settings
        self._open: dict[type[Any], asyncio.Future[Any]] = {}

    async def to(self, kind: type[C]) -> C:
        if kind not in self._open:
            self._open[kind] = asyncio.ensure_future(self._connect(kind))
        try:
            return await asyncio.shield(self._open[kind])
        except BaseException:
            if self._open[kind].done():
                del self._open[kind]  # the next call connects again
            raise

    async def _connect(self, kind: type[C]) -> C:
        settings = self._settings(kind)
        if missing := missing_settings(kind, settings):
            raise StepFailed(f"{getattr(kind, 'name', kind.__name__)} {missing}")
        return await kind.connect(settings)

    async def close(self) -> None:
        opened, self._open = self._open, {}
        for client in await asyncio.gather(*opened.values(), return_exceptions=True):
            if not isinstance(client, BaseException):
                await client.close()
