"""What an answer of the Kubernetes API means. The status decides, whatever the body is: a proxy between us may write
the body, and the server itself answers `404 page not found` in plain text for an API group that is not installed.
"""

from __future__ import annotations

import json
from typing import Any

from responder.backends.kubernetes.objects import Object
from responder.config.text import one_line
from responder.errors import StepFailed, Unavailable

_SHOWN = 200
"""Characters of a body that is not JSON."""


class Forbidden(StepFailed):
    """The API server knows us and says no."""


def decoded(body: bytes) -> Any:
    """The JSON object of a body. Any other body becomes an object with only a `message`."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = body.decode(errors="replace")
    return found if isinstance(found, dict) else {"message": one_line(str(found).strip(), _SHOWN)}


def failure(status: int, answer: Object, retry_after: float = 0.0) -> Unavailable:
    """The error for a status that another try may mend."""
    return Unavailable(f"the Kubernetes API answered {status}: {_message(answer)}", retry_after=retry_after)


def is_temporary(status: int) -> bool:
    return status in (408, 429) or status >= 500


def good(status: int, answer: Object, what: str, /, **shape: type) -> Object:
    """The answer of a request that succeeded, with the keys that it must have and their types.

    Raises `Forbidden`, `Unavailable` where another try may succeed, else `Halt`.
    """
    if 200 <= status < 300:
        if missing := [key for key, kind in shape.items() if not isinstance(answer.get(key), kind)]:
            shown = one_line(answer.get("message") or answer, _SHOWN)
            raise Unavailable(f"{what}: the Kubernetes API answered {status} without {', '.join(missing)}: {shown}")
        return answer
    message = _message(answer)
    match status:
        case 401 | 403:
            raise Forbidden(f"{what}: the cluster does not let us ({status}): {message}")
        case 409:
            raise Unavailable(f"{what} changed while we looked at it (409): {message}")
        case 410:
            raise Unavailable(f"{what}: the list expired while it was read (410): {message}")
    if is_temporary(status):
        raise failure(status, answer)
    raise StepFailed(f"{what}: the Kubernetes API answered {status}: {message}")


def _message(answer: Object) -> str:
    message = answer.get("message")
    return one_line(message, _SHOWN * 5) if isinstance(message, str) and message else "(no message)"


def items(status: int, answer: Object, what: str) -> list[Object]:
    """The objects of a list. Raises as `good` does."""
    found = good(status, answer, what, items=list)["items"]
    if not all(isinstance(item, dict) for item in found):
        raise Unavailable(f"{what}: the Kubernetes API answered {status} with items that are no objects")
    return list(found)
