"""`responder serve` that injects a fault right after a chosen statement of the journal in PostgreSQL.

FAULT_AFTER is a pattern, FAULT_AT is the number of the matching statement (from 1), and ARMED names a file: while it
does not exist, no statement counts. FAULT is the fault in JSON: the name of a signal to itself, or a command that
disconnects it. FAULT_FILE names a file for the text of that statement.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from responder.cli import main
from responder.journal.postgres import database, transaction

_ask = database.ask
_after, _at = re.compile(os.environ["FAULT_AFTER"]), int(os.environ["FAULT_AT"])
_armed, _fault_file = Path(os.environ["ARMED"]), Path(os.environ["FAULT_FILE"])
_fault: str | list[str] = json.loads(os.environ["FAULT"])
_seen = 0


async def ask(call: Callable[..., Awaitable[Any]], *args: Any, **more: Any) -> Any:
    """As in the journal, but injects the fault after the effect of the statement, before anything else runs."""
    global _seen
    answer = await _ask(call, *args, **more)
    statement = " ".join(str(arg).split("\n")[0][:100] for arg in args[:2] if isinstance(arg, str)) or call.__name__
    if _armed.exists() and _after.search(statement):
        _seen += 1
        if _seen == _at:
            _fault_file.write_text(statement)
            if isinstance(_fault, str):
                os.kill(os.getpid(), signal.Signals[_fault])
            else:
                subprocess.run(_fault, check=True)
    return answer


if __name__ == "__main__":
    database.ask = transaction.ask = ask
    raise SystemExit(main())
