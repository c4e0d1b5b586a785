"""`responder serve` that stops itself (SIGSTOP) right after a chosen statement of the journal in PostgreSQL.

STOP_AFTER is a pattern, STOP_AT says which of the statements that match it (from 1), and ARMED names a file: as long
as it does not exist, no statement counts. TRACE names a file to which every statement that counts is written.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from responder.cli import main
from responder.journal import postgres

_ask = postgres.ask
_after, _at, _armed = re.compile(os.environ["STOP_AFTER"]), int(os.environ["STOP_AT"]), Path(os.environ["ARMED"])
_trace = os.environ.get("TRACE")
_seen = 0


async def ask(call: Callable[..., Awaitable[Any]], *args: Any, **more: Any) -> Any:
    """As the one of the journal; it stops the whole process once the statement has had its effect."""
    global _seen
    answer = await _ask(call, *args, **more)
    statement = " ".join(str(arg).split("\n")[0][:100] for arg in args[:2] if isinstance(arg, str)) or call.__name__
    if _armed.exists():
        if _trace:
            with Path(_trace).open("a") as file:
                file.write(f"{statement}\n")
        if _after.search(statement):
            _seen += 1
            if _seen == _at:
                os.kill(os.getpid(), signal.SIGSTOP)
    return answer


if __name__ == "__main__":
    postgres.ask = ask
    raise SystemExit(main())
