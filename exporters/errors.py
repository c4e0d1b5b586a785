"""Errors: the target failed, the probe could not be made, or the configuration is wrong."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from foundation.configuration.findings import Finding

LOCAL_LIMITS = frozenset(
    {
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL),
        *(errno.ENETDOWN, errno.ENETUNREACH),  # this host has no route to any target
        socket.EAI_AGAIN,  # no name server answers
    }
)


class Failed(Exception):
    """The target failed the check. `reason` is one of the check type's `reasons`, and the end of a series name."""

    def __init__(self, why: str, *, reason: str) -> None:
        super().__init__(why)
        self.why = why
        self.reason = reason


class Unable(Exception):
    """The probe could not be made, and the target is not at fault. /probe answers 503: the sample is missing, not 0.

    Otherwise an exporter that is out of file handles would report every service down, and all would be rolled back.
    """


class ConfigError(Exception):
    """The configuration cannot be used. `findings` has every mistake with its position."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = tuple(findings)


def raise_if_local(error: BaseException) -> None:
    """Raises Unable if the error or one of its causes is a limit of this host, which is not the target's fault."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in LOCAL_LIMITS:
            raise Unable(f"a limit of the exporter's own host: {cause.strerror}") from error
        cause = cause.__cause__ or cause.__context__
