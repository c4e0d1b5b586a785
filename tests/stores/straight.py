"""The responder's clients without sockets, for the many drills; other tests cover the sockets."""

from __future__ import annotations

import json
from typing import Any

from responder.backends.app_stores.app_store_client import AppStore
from responder.backends.app_stores.google_play_client import GooglePlay
from responder.transport.http_client import Answer
from tests.cdns.wire import Request, Response
from tests.stores.app_store import FakeAppStore
from tests.stores.google_play import FakePlay
from tests.stores.keys import app_store_settings, apple_key, pem, play_settings


def _answer(answer: Response) -> Answer:
    return Answer(answer.status, answer.headers, answer.body)


class StraightPlay(GooglePlay):
    def __init__(self, fake: FakePlay) -> None:
        super().__init__(play_settings("http://play.test"), None)
        self._fake, self._token = fake, fake.token()

    async def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        return _answer(self._fake.answer(Request.of(method, path, headers, json.dumps(body).encode())))

    async def _bearer_token(self) -> str:
        return self._token


class StraightAppStore(AppStore):
    def __init__(self, fake: FakeAppStore) -> None:
        super().__init__(app_store_settings("http://apple.test"), pem(apple_key()))
        self._fake = fake

    async def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        return _answer(self._fake.answer(Request.of(method, path, headers, json.dumps(body).encode())))
