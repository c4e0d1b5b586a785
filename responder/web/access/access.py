"""Authentication, and errors as JSON."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, get_args

from aiohttp import web

from responder.config.permitted import EVERYTHING, Permitted
from responder.errors import Changed, Conflict, Forbidden, Invalid, JournalUnavailable, LeaseLost, Unknown
from responder.logging import say
from responder.web.access.cross_site import OwnHosts
from responder.web.access.passwords import Passwords
from responder.web.access.settings import Scope, Token, User, WebSettings

log = logging.getLogger("responder.web")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Who:
    """An authenticated client: its name for the record, its scopes and its limits."""

    name: str
    scopes: frozenset[Scope]
    permitted: Permitted = EVERYTHING


ANYONE = Who("anyone on this host", frozenset(get_args(Scope)))
"""The client if no tokens are configured. The listener is then on a loopback address."""

WHO: web.RequestKey[Who] = web.RequestKey("who", Who)


def _who(settings: Token | User) -> Who:
    permitted = Permitted.of(settings.services, settings.environments)
    return Who(settings.name, frozenset(settings.scopes), permitted)


class Access:
    """Bearer tokens, stored as digests and compared in constant time, and users with passwords."""

    def __init__(self, settings: WebSettings) -> None:
        self._known = [(hashlib.sha256(token.secret.encode()).digest(), _who(token)) for token in settings.tokens]
        self._users = {user.name: _who(user) for user in settings.users}
        self.hosts = OwnHosts(settings)
        self._passwords = Passwords(settings.served.basic_auth_users)
        passwords = bool(self._users)
        self.required = "a bearer token or a password" if passwords else "a bearer token"
        self.wrong = "the bearer token or the password is wrong" if passwords else "the bearer token is wrong"
        self.challenge = 'Bearer, Basic realm="rollback responder"' if passwords else "Bearer"

    async def prove(self, request: web.Request) -> None:
        """Verifies a password in the request. Await it before `who`, because bcrypt is slow."""
        await self._passwords.prove(request)

    def who(self, request: web.Request) -> Who | None:
        """The owner of the token, or the user whose password was verified; None if there is neither."""
        if not self._known and not self._users:
            return ANYONE
        if (name := self._passwords.name(request)) is not None:
            return self._users.get(name)
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest = hashlib.sha256(secret.strip().encode(errors="surrogateescape")).digest()
        found = None
        for known, who in self._known:
            if hmac.compare_digest(known, digest):
                found = who
        return found

    async def identify(self, request: web.Request) -> web.Response | None:
        """Authenticates the request. Returns the answer 401 if it fails."""
        await self.prove(request)
        who = self.who(request)
        if who is not None:
            request[WHO] = who
            return None
        if "Authorization" in request.headers:
            return error(401, self.wrong, **{"WWW-Authenticate": f'{self.challenge}, error="invalid_token"'})
        return error(401, f"{self.required} is required", **{"WWW-Authenticate": self.challenge})

    def allows(self, request: web.Request, scope: Scope) -> bool:
        """Whether the client still has the scope and the same limits, also after a reload."""
        who = self.who(request)
        return who is not None and scope in who.scopes and who.permitted == request[WHO].permitted


def error(status: int, message: str, where: str = "", **headers: str) -> web.Response:
    """The answer `{"error": message, "where": path in the input}`."""
    body = {"error": message, "where": where} if where else {"error": message}
    return web.json_response(body, status=status, headers=headers)


async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The answer of the handler, with errors turned into answers."""
    try:
        return await handler(request)
    except web.HTTPException as e:
        return error(e.status, e.text or e.reason)
    except Invalid as e:
        return error(400, str(e), e.where)
    except Forbidden as e:
        return error(403, str(e))
    except Unknown as e:
        return error(404, str(e))
    except (Conflict, LeaseLost) as e:
        return error(409, str(e))
    except Changed as e:
        return error(412, str(e))
    except JournalUnavailable as e:
        say(log, "journal unavailable", level=logging.ERROR, path=request.path, reason=str(e))
        return error(503, str(e), **{"Retry-After": "5"})
    except ConnectionError as e:
        if request.transport is None or request.transport.is_closing():
            raise  # the client disconnected
        log.exception("request failed", extra={"fields": {"path": request.path}})
        return error(500, f"{type(e).__name__}: this is a bug; see the log")
    except Exception as e:
        log.exception("request failed", extra={"fields": {"path": request.path}})
        return error(500, f"{type(e).__name__}: this is a bug; see the log")


def who_asks(request: web.Request, body: dict[str, Any]) -> str:
    """The name for the record. `by` in the body counts only if no tokens are configured."""
    who = request[WHO]
    if who is ANYONE and body.get("by"):
        return str(body["by"])[:100]
    return who.name
