"""Sends ten requests per second, a page and then a checkout, and logs the results."""

from __future__ import annotations

import http.client
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

PER_SECOND = 10
TIMEOUT = 2.0
ALIVE = Path("/tmp/alive")
"""Touched by each request, for the health check: without requests, no error would show."""


def request(url: str) -> str:
    """The result of one request: its status and the release that answered, or the error."""
    there = urlsplit(url)
    connection = http.client.HTTPConnection(there.netloc, timeout=TIMEOUT)
    try:
        connection.request("GET", there.path)
        answer = connection.getresponse()
        answer.read()
        return f"{answer.status} from {answer.headers.get('X-Release', 'the front end')}"
    except (OSError, http.client.HTTPException) as e:
        return type(e).__name__
    finally:
        connection.close()


def main() -> None:
    """Requests each URL of the command line in turn, and prints the results every 5 s."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # PID 1 of a container ignores SIGTERM by default
    urls, counted, report_at = sys.argv[1:], Counter[str](), time.monotonic() + 5
    while True:
        for url in urls:
            counted[request(url)] += 1
            ALIVE.touch()
            time.sleep(1 / PER_SECOND)
        if time.monotonic() > report_at:
            print(", ".join(f"{n} x {what}" for what, n in sorted(counted.items())), flush=True)
            counted.clear()
            report_at += 5


if __name__ == "__main__":
    main()
