"""The base of app store clients: a short-lived login, made from a key, and answers of a known shape."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import BaseModel

from foundation.secrets import secret_of
from responder.errors import StepFailed, Unavailable
from responder.transport.json_api import ApiRefused, JsonApi


class StoreApi(JsonApi):
    """The API of one app store."""

    extra: ClassVar[str] = "stores"
    setting: ClassVar[str]
    needs: ClassVar[str] = "a key"
    rights: ClassVar[str]
    """What a person checks in the store after 401 and 403."""

    async def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Returns the JSON object of the answer, empty without a body. Raises Unavailable and StepFailed."""
        try:
            answer = await self.request(method, path, body)
        except ApiRefused as refused:
            if refused.status == 401:
                self._forget_login()
            if refused.status in (401, 403):
                raise StepFailed(f"{refused}. {self.rights}") from refused
            raise
        if answer is not None and not isinstance(answer, dict):
            raise Unavailable(f"{self.name} answered with {type(answer).__name__}, expected a JSON object")
        return answer or {}

    @contextmanager
    def _shape(self) -> Iterator[None]:
        """Reading an answer in this context raises Unavailable if the answer has an unexpected shape."""
        try:
            yield
        except (LookupError, TypeError, AttributeError, ValueError) as e:
            raise Unavailable(f"{self.name} answered with an unexpected shape: {type(e).__name__} {e}") from e

    async def _login(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {await self._bearer_token()}"}

    @classmethod
    async def _key_of(cls, settings: BaseModel) -> str:
        """Returns the key from `key` or `key_file`, read again by each connection. Raises StepFailed."""
        try:
            return await asyncio.to_thread(secret_of, settings, "key")
        except ValueError as e:
            raise StepFailed(f"{cls.setting}: {e}") from None

    @abstractmethod
    async def _bearer_token(self) -> str:
        """Returns a valid bearer token. Raises StepFailed if the key is unusable."""

    @abstractmethod
    def _forget_login(self) -> None:
        """Drops the current bearer token."""
