"""What only some resources can do, one small protocol each. The gateway tests for them with `isinstance`."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Converges(Protocol):
    """The outside system follows a write later. Without it, a write has converged if the value can be read back."""

    async def converged(self, client: Any, value: Any) -> bool:
        """Returns whether the outside system has caught up with this value. Raises StepFailed if it never will.

        Law: after a write it becomes True without another write, and it changes nothing.
        """


@runtime_checkable
class Assisted(Protocol):
    """The outside system does not always converge by itself."""

    async def assist(self, client: Any, value: Any) -> None:
        """Removes an obstacle to convergence, one at a time.

        Law: it never changes the value; it can be called between any two checks, and again after a crash.
        """


@runtime_checkable
class Attributed(Protocol):
    """The outside system records who changed the value."""

    async def last_modified_by(self, client: Any) -> str:
        """Returns the author of the last change; empty if unknown. Law: it changes nothing."""


@runtime_checkable
class Versioned(Protocol):
    """Values stand for versions of a service. Without it, the version itself is the value."""

    async def value_of(self, client: Any, version: str, artifact: str) -> Any:
        """Returns the value for a version. Raises StepFailed if it is no longer available.

        Law: `runs` is True for the result and the same version and artifact.
        """

    async def runs(self, client: Any, found: Any, version: str, artifact: str) -> bool:
        """Returns whether a value that was found is this version."""


@runtime_checkable
class Observable(Protocol):
    """A value that was found shows its version. Without it, this is known only if the version itself is the value."""

    async def version_of(self, client: Any, found: Any) -> tuple[str, str]:
        """Returns version and artifact of a value that was found. An empty version: it does not show it.

        Law: `runs` is True for them. It changes nothing.
        """


@runtime_checkable
class Preflight(Protocol):
    """Obstacles to a write can be detected before it."""

    async def preflight(self, client: Any, value: Any) -> tuple[str, ...]:
        """Returns notes for people. Raises StepFailed if the value cannot be set. Law: it changes nothing."""
