"""Conditional writes in AWS: a concurrent change is never overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from responder.errors import Unavailable
from responder.transport.aws import AwsRefused

TOO_LATE = {"ConditionalRequestConflict", "ConflictException", "InvalidIfMatchVersion", "PreconditionFailed"}


@contextmanager
def swapping(what: object) -> Iterator[None]:
    """Raises Unavailable if the value changed since it was read. The retry reads it again."""
    try:
        yield
    except AwsRefused as refused:
        if refused.code in TOO_LATE:
            raise Unavailable(f"the {what} was changed at the same time") from refused
        raise
