"""A client of the Prometheus query API. Each query has a deadline and a size limit."""

from __future__ import annotations

import asyncio
import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic import BaseModel, Field, HttpUrl, SecretStr

from foundation.durations import Duration
from foundation.models import StrictModel
from responder.config.sizes import format_size
from responder.errors import StepFailed, Unavailable
from responder.transport.http_client import Answer, HttpClient, NoAnswer

if TYPE_CHECKING:
    from requests import Response

_MOST = 4 << 20
"""Maximum bytes of an answer. Parsing them blocks all threads for about a tenth of a second."""
_OFF_THE_LOOP = 1 << 16
"""Bytes; a larger answer is parsed in a thread."""
_MAX_ERROR = 500
"""Maximum characters of an error text; a proxy may answer with a page."""


class PrometheusSettings(StrictModel):
    """How to reach Prometheus, or a server with its query API."""

    url: HttpUrl = Field(description="Base URL, such as http://localhost:9090")
    token: SecretStr | None = Field(default=None, description="Bearer token, such as ${PROMETHEUS_TOKEN}")
    timeout: Duration = Field(default=5.0, gt=0, description="Deadline for one query")


class TooMuch(Unavailable):
    """The answer is larger than the limit."""


class Sample(NamedTuple):
    """One series of an instant vector."""

    labels: dict[str, str]
    value: float


class Series(BaseModel):
    """One series of a range: points of (Unix time in seconds, value)."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


class Prometheus:
    """Queries. Raises Unavailable without an answer, TooMuch above the size limit, StepFailed if Prometheus refuses."""

    setting = "prometheus"
    needs = "the URL of a server"

    def __init__(self, settings: PrometheusSettings) -> None:
        self._settings = settings
        headers = {"Authorization": f"Bearer {settings.token.get_secret_value()}"} if settings.token else {}
        self._http = HttpClient(settings.timeout, headers=headers, follow_redirects=True)
        self._connect: Any = None
        # prometheus-api-client is synchronous, and a hanging thread cannot be stopped. It must not block the default
        # executor, which serves files and name resolution.
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="prometheus")

    @classmethod
    async def connect(cls, settings: PrometheusSettings) -> Self:
        return cls(settings)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._http.close()

    async def query(self, promql: str, *, at: datetime | None = None) -> list[Sample]:
        """The instant vector now or at a time; empty without data. A scalar is one sample without labels."""
        time = {"time": f"{at.timestamp():.6f}"} if at else {}
        found = await self._get("query", promql, query=promql, **time)
        if len(found.body) < _OFF_THE_LOOP:
            return self._samples(promql, found)
        return await asyncio.to_thread(self._samples, promql, found)

    async def range(self, promql: str, start: datetime, end: datetime, step: float) -> list[Series]:
        """All series of a range query. `step`: seconds."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await loop.run_in_executor(self._threads, self._range, promql, start, end, step)
        except TimeoutError:
            raise Unavailable(
                f"Prometheus at {self._settings.url} did not answer in {self._settings.timeout:g} s"
            ) from None

    async def rules(self) -> list[dict[str, Any]]:
        """The loaded groups of alerting and recording rules."""
        found: list[dict[str, Any]] = (await self._api("rules")).get("groups") or []
        return found

    async def alertmanagers(self) -> list[str]:
        """The URLs of the active Alertmanagers."""
        return [
            str(alertmanager.get("url", ""))
            for alertmanager in (await self._api("alertmanagers")).get("activeAlertmanagers") or ()
        ]

    async def _api(self, path: str) -> dict[str, Any]:
        answer = await self._get(path, f"/api/v1/{path}")
        data: dict[str, Any] = self._data(answer)
        return data

    async def _get(self, path: str, what: str, **params: str) -> Answer:
        """The answer with a status of 2xx. `what`: the query, for errors."""
        server = f"Prometheus at {self._settings.url}"
        try:
            url = f"{str(self._settings.url).rstrip('/')}/api/v1/{path}"
            answer = await self._http.send("GET", url, shown=server, longest=_MOST + 1, cut=True, params=params)
        except NoAnswer as e:
            raise Unavailable(f"{server} did not answer: {e.reason}") from e
        if len(answer.body) > _MOST:
            raise _too_much(what)
        if answer.succeeded:
            return answer
        error = f"{answer.status} {answer.text[:_MAX_ERROR]}"
        if 400 <= answer.status < 500 and answer.status != 429:
            raise StepFailed(f"Prometheus refuses {what!r}: {error}")
        raise Unavailable(f"{server} answered with an error: {error}")

    def _data(self, answer: Answer) -> Any:
        try:
            return json.loads(answer.body)["data"]
        except (ValueError, LookupError, TypeError, RecursionError) as e:
            raise Unavailable(f"Prometheus at {self._settings.url} answered with an unexpected body") from e

    def _samples(self, promql: str, answer: Answer) -> list[Sample]:
        data = self._data(answer)
        try:
            result = data["result"]
        except (LookupError, TypeError) as e:
            raise Unavailable(f"Prometheus at {self._settings.url} answered with an unexpected body") from e
        try:
            if result and not isinstance(result[0], dict):  # a scalar: [time, "value"]
                result = [{"metric": {}, "value": result}]
            return [Sample(item["metric"], float(item["value"][1])) for item in result]
        except (LookupError, TypeError, ValueError) as e:
            raise StepFailed(f"{promql!r} does not return an instant vector") from e

    def _range(self, promql: str, start: datetime, end: datetime, step: float) -> list[Series]:
        from prometheus_api_client import PrometheusConnect  # imports requests and dateparser, so not at startup
        from prometheus_api_client.exceptions import PrometheusApiClientException
        from requests import RequestException, Session
        from urllib3.exceptions import HTTPError
        from urllib3.util import Retry

        if self._connect is None:
            token, session = self._settings.token, Session()
            session.hooks["response"] = [_bounded]  # runs before the body is read
            session.trust_env = False  # no proxy of the environment, as for all other clients
            self._connect = PrometheusConnect(
                str(self._settings.url).rstrip("/"),
                headers={"Authorization": f"Bearer {token.get_secret_value()}"} if token else None,
                timeout=self._settings.timeout,
                session=session,
                retry=Retry(total=0),  # the gateway retries, within its own deadline
                method="GET",
            )
        try:
            # A plain number, because a Prometheus duration has no fractions.
            return _series(promql, self._connect.custom_query_range(promql, start, end, f"{step:g}"))
        except _Longer:
            raise _too_much(promql) from None
        except (RequestException, HTTPError) as e:
            raise Unavailable(f"Prometheus at {self._settings.url} did not answer: {type(e).__name__}") from e
        except PrometheusApiClientException as e:
            if "HTTP Status Code 4" in str(e) and "HTTP Status Code 429" not in str(e):
                raise StepFailed(f"Prometheus refuses {promql!r}: {str(e)[:_MAX_ERROR]}") from e
            raise Unavailable(
                f"Prometheus at {self._settings.url} answered with an error: {str(e)[:_MAX_ERROR]}"
            ) from e
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise Unavailable(f"Prometheus at {self._settings.url} answered with an unexpected body") from e


def _too_much(promql: str) -> TooMuch:
    size = format_size(_MOST)
    return TooMuch(f"the answer to {promql!r} exceeds {size}: aggregate it, for example with sum by (...)")


class _Longer(Exception):
    """The answer exceeds the limit."""


def _bounded(response: Response, **_: Any) -> None:
    """Reads the body up to the limit; later readers of the response get the read body."""
    from urllib3.exceptions import HTTPError

    body = io.BytesIO()
    try:
        for chunk in response.raw.stream(1 << 16, decode_content=True):
            if body.tell() + len(chunk) > _MOST:
                response.raw.close()
                raise _Longer
            body.write(chunk)
    except HTTPError:
        if response.ok:
            raise  # otherwise the status is enough
    body.seek(0)
    response.raw = body


def _series(promql: str, result: Any) -> list[Series]:
    # Runs in the thread of the query, because thousands of series take a second.
    try:
        return [
            Series(labels=item["metric"], points=[(float(at), float(value)) for at, value in item["values"]])
            for item in result
        ]
    except (LookupError, TypeError, ValueError) as e:
        raise StepFailed(f"{promql!r} does not return a range vector") from e
