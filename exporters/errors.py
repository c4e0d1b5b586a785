"""Three ways to say no: the target failed, the probe could not be made, the configuration is wrong."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

OUR_OWN_LIMITS = frozenset(
    {
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL),
        *(errno.ENETDOWN, errno.ENETUNREACH),  # no way out of here, to anybody
        socket.EAI_AGAIN,  # no name server answers
    }
)


class Failed(Exception):
    """The target did not hold. `reason` is one of the check type's `reasons` and ends in a series name."""

    def __init__(self, why: str, *, reason: str) -> None:
        super().__init__(why)
        self.why = why
        self.reason = reason


class Unable(Exception):
    """The probe could not be made through no fault of the target: answered 503, so the sample is missing, not failed.

    Out of file handles, every service would look down at once, and a fleet would be rolled back for it.
    """


class ConfigError(Exception):
    """The configuration cannot be used; `problems` names every mistake with its place."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True)
class Problem:
    """One mistake: the file, its line where known, the path of the value and what is wrong with it."""

    file: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        location = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{location}: {self.path}: {self.message}" if self.path else f"{location}: {self.message}"


def spare_the_target(error: BaseException) -> None:
    """Raise Unable if this error, or what caused it, is a limit of this host and says nothing about the target."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in OUR_OWN_LIMITS:
            raise Unable(f"this exporter's own host does not let it: {cause.strerror}") from error
        cause = cause.__cause__ or cause.__context__
