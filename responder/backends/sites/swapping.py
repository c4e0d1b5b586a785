"""Compare and swap by the other side's own means: who was too late looks again instead of writing over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from responder.errors import Unavailable
from responder.transport.aws import AwsRefused

TOO_LATE = {"ConditionalRequestConflict", "ConflictException", "InvalidIfMatchVersion", "PreconditionFailed"}


@contextmanager
def swapping(what: object) -> Iterator[None]:
    """Raises Unavailable where somebody else wrote since we read: the resource then begins anew by reading."""
    try:
        yield
    except AwsRefused as refused:
        if refused.code in TOO_LATE:
            raise Unavailable(f"somebody else was writing to the {what} at the same moment") from refused
        raise
