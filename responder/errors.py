"""The few ways in which things go wrong, each named by what happens next."""

from __future__ import annotations


class ResponderError(Exception):
    """Anything that we understand well enough to say in one sentence."""


class StepFailed(ResponderError):
    """This step cannot be done: what was done before it is turned back."""


class UnexpectedVersion(StepFailed):
    """What runs there is not the version that the deployments tell of."""


class Drift(StepFailed):
    """A resource is neither `was` nor `to`: somebody else moved it. Nothing more is touched; a human decides."""

    def __init__(self, message: str, by: str = "") -> None:
        super().__init__(message)
        self.by = by  # who, where the outside keeps books of that


class Inconclusive(StepFailed):
    """Nobody could say how it is until the deadline. That is no reason to think ill of anything."""


class Unavailable(ResponderError):
    """The other side did not answer properly. Worth another try before the deadline; then it is a `Halt`.

    `retry_after`: seconds that the other side asks to be left alone before that.
    """

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LeaseLost(ResponderError):
    """This process no longer owns the execution. It stops at once and writes nothing more, not even that it stopped."""


class JournalUnavailable(ResponderError):
    """The journal could not be read or written, so nothing was accepted. The sender should come back (503)."""


class Unknown(ResponderError):
    """Something was named that does not exist (404)."""


class Forbidden(ResponderError):
    """The token or the user is not permitted for this (403)."""


class Conflict(ResponderError):
    """Well understood, but not in this state (409)."""


class Changed(ResponderError):
    """Somebody else changed it since whoever asks has read it (412)."""


class Invalid(ResponderError):
    """The input makes no sense. `where` names the place in it, as `alerts[3].labels` (400)."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.where = where


class ConfigError(ResponderError):
    """The configuration cannot be used. Holds every mistake found, each as `file:line: path: what is wrong`."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes
