#!/usr/bin/env python3
"""Reports a deployment to the rollback responder. Needs only Python 3.8 or newer: copy this file into your pipeline.

The token comes from --token-file or RESPONDER_TOKEN; it needs only the scope `deploy`. Options with an empty value are
ignored, so that pipelines can pass optional inputs.

Exit codes: 0 reported, or reported before; 1 not delivered, after retries; 2 rejected, or wrong arguments.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

REPORTED, NOT_DELIVERED, REJECTED = 0, 1, 2
ATTEMPT_SECONDS, LONGEST_PAUSE = 10, 30.0
BUSY = (408, 425, 429)  # and 5xx: try again


class Rejected(Exception):
    """The report is wrong; trying again does not help."""


class Unavailable(Exception):
    """Nothing answered, or with an error that may pass. `pause`: the seconds that the server asks to wait."""

    def __init__(self, message: str, pause: float = 0) -> None:
        super().__init__(message)
        self.pause = pause


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would send the token to another address."""

    def redirect_request(self, *_):
        return None


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("service", help="name of the service in the configuration of the responder")
    add("version", help="the version that is live now, such as the tag of the image")
    add("--url", default=os.environ.get("RESPONDER_URL"), help="address of the responder (default: RESPONDER_URL)")
    add("--environment", help="required if the service has several")
    add("--platform", help="for services with several platforms")
    add("--artifact", help="what was deployed, such as image@sha256:...")
    add("--provenance", help="where it comes from, such as the URL of this pipeline")
    add("--id", help="identifies this deployment; a second report with the same ID changes nothing (default: random)")
    add("--good", action="store_true", help="the version is known to be good: for the first deployment")
    add("--token-file", help="file with the token (default: the token itself in RESPONDER_TOKEN)")
    add("--ca-file", default=os.environ.get("RESPONDER_CA_FILE"), help="trusted CA certificates (RESPONDER_CA_FILE)")
    add("--wait", type=float, default=120, help="seconds to try again if the responder does not answer (default: 120)")
    return parser.parse_args()


def read_token(file):
    try:
        token = Path(file).read_text(errors="replace") if file else os.environ.get("RESPONDER_TOKEN", "")
    except OSError as error:
        raise Rejected(f"--token-file {file}: {error.strerror}") from None
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise Rejected(f"{file or 'RESPONDER_TOKEN'} is not a token: expected one line of ASCII text")
    return token


def request_for(options):
    if not options.url:
        raise Rejected("no address: pass --url, or set RESPONDER_URL, such as https://responder.example.com")
    if "@" in options.url:
        raise Rejected("--url must not contain a password: pass the token with --token-file or RESPONDER_TOKEN")
    if not options.url.startswith(("http://", "https://")):
        raise Rejected(f"--url {options.url!r}: must begin with http:// or https://")
    names = ("service", "version", "environment", "platform", "artifact", "provenance")
    body = {name: getattr(options, name) for name in names if getattr(options, name)}
    # The same ID in every attempt: if an answer was lost, the next attempt reports nothing twice.
    body["id"] = options.id or f"{options.version}-{uuid.uuid4().hex[:12]}"
    if options.good:
        body["status"] = "good"
    headers = {"Content-Type": "application/json", "User-Agent": "report-deployment"}
    token = read_token(options.token_file)
    if token:
        headers["Authorization"] = "Bearer " + token
    address = options.url.rstrip("/") + "/api/v1/deployments"
    return urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")


def opener_for(options):
    if not options.ca_file:
        return urllib.request.build_opener(NoRedirects)
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:
        raise Rejected(f"--ca-file {options.ca_file}: {error.strerror or error}") from None
    return urllib.request.build_opener(NoRedirects, urllib.request.HTTPSHandler(context=context))


def answer_of(text):
    """The answer of the responder as a dictionary; of anything else, such as a proxy, its first line."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"error": text.decode("utf-8", "replace").strip()[:200]}


def send(opener, request):
    """Sends the report once. Returns the answer of the responder."""
    try:
        with opener.open(request, timeout=ATTEMPT_SECONDS) as response:
            answer = answer_of(response.read())
    except urllib.error.HTTPError as error:
        with error:
            answer = answer_of(error.read())
        message = f"HTTP {error.code}: {answer.get('error') or error.reason}"
        if answer.get("where"):
            message += f" ({answer['where']})"
        if error.code >= 500 or error.code in BUSY:
            after = error.headers.get("Retry-After", "")
            raise Unavailable(message, float(after) if after.isdigit() else 0) from None
        if 300 <= error.code < 400:
            message += f": redirects to {error.headers.get('Location')}; use that address if you trust it"
        raise Rejected(message) from None
    except http.client.InvalidURL as error:
        raise Rejected(f"--url: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise Rejected(f"{reason} (pass --ca-file)") from None
        raise Unavailable(str(reason) or type(reason).__name__) from None
    if not isinstance(answer.get("deployment"), dict):
        raise Rejected("the answer is not one of the responder: check --url")
    return answer


def report(options):
    opener, request = opener_for(options), request_for(options)
    until, pause = time.monotonic() + options.wait, 1.0
    while True:
        try:
            return send(opener, request)
        except Unavailable as error:
            wait = min(max(pause, error.pause), LONGEST_PAUSE)
            left = until - time.monotonic()
            if left <= 0:
                raise
            wait = min(wait, left)
            print(f"{error}; next attempt in {wait:.0f} s", file=sys.stderr)
            time.sleep(wait)
            pause *= 2


def main():
    options = arguments()
    try:
        answer = report(options)
    except Rejected as error:
        print(f"not reported: {error}", file=sys.stderr)
        return REJECTED
    except Unavailable as error:
        print(f"not reported: {options.url}: {error}", file=sys.stderr)
        return NOT_DELIVERED
    service, version, environment = (answer["deployment"].get(n) for n in ("service", "version", "environment"))
    state = "reported" if answer.get("new") else "was reported before"
    print(f"{service} {version} in {environment}: {state}")
    for pin in answer.get("pinned") or ():
        print(f"warning: {pin}: deploy again after the responder has removed it, within a minute", file=sys.stderr)
    return REPORTED


if __name__ == "__main__":
    sys.exit(main())
