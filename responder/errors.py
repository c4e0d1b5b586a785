"""The errors of the responder. The class decides the reaction: retry, revert, freeze, or a response to the caller."""

from __future__ import annotations

from collections.abc import Sequence

from foundation.configuration.findings import Finding, finding_of


class ResponderError(Exception):
    """An expected error. Its message is for people."""


class StepFailed(ResponderError):
    """A step failed. The steps before it are reverted."""


class UnexpectedVersion(StepFailed):
    """The running version is not the last reported one."""


class Drift(StepFailed):
    """A resource is neither `before` nor `after`: someone else changed it. The rollback freezes; a person decides."""

    def __init__(self, message: str, by: str = "") -> None:
        super().__init__(message)
        self.by = by  # who changed it, if the system records that


class Inconclusive(StepFailed):
    """No check answered before the deadline. This is no evidence against any version."""


class Unavailable(ResponderError):
    """A system did not answer correctly. Retried until the deadline of the step, which then fails.

    `retry_after`: seconds that the system asks to wait before the next request; 0 if it does not. The step fails at
    once if they exceed its deadline; infinite: a retry would do harm.
    """

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Outdated(Unavailable):
    """What was read has changed meanwhile, or is about to change. It is read again at once."""


class LeaseLost(ResponderError):
    """This process no longer owns the execution. It stops at once and writes nothing more."""


class JournalUnavailable(ResponderError):
    """The journal cannot be read or written, so nothing was accepted. The sender should retry (503)."""


class Unknown(ResponderError):
    """A name that does not exist (404)."""


class Forbidden(ResponderError):
    """The token or user lacks the permission (403)."""


class Conflict(ResponderError):
    """Not possible in the current state (409)."""


class Changed(ResponderError):
    """Changed by someone else since the caller read it (412)."""


class Invalid(ResponderError):
    """Invalid input (400). `where` is its path, such as `alerts[3].labels`."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.where = where


class ConfigError(ResponderError):
    """The configuration cannot be used. `findings` has every mistake with its position."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = tuple(findings)

    @classmethod
    def of(cls, path: str, text: str) -> ConfigError:
        """One mistake in the setting at the path. `text`: what is wrong; what to do."""
        return cls([finding_of(text, path=path)])

    @property
    def mistakes(self) -> list[str]:
        """Every finding as text."""
        return [*map(str, self.findings)]
