"""A Kubernetes client that handles objects as raw JSON, so unknown fields survive every patch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import yaml
from pydantic import Field

from foundation.durations import Duration
from foundation.models import StrictModel
from responder.backends.kubernetes.api import (
    ALWAYS,
    HOMES,
    decoded,
    failure,
    good,
    is_temporary,
    items,
    many,
    path_of,
    plural,
)
from responder.backends.kubernetes.objects import MANAGER, Object
from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting
from responder.transport.http_client import TooLong, body_of
from responder.transport.retry_after import retry_after

_DISCOVERED_FOR = 60.0
"""Seconds until discovery is repeated: a kind may be installed while the responder runs."""


class KubernetesSettings(StrictModel):
    """How to reach the API server. The default is the pod's service account, or the kubeconfig."""

    kubeconfig: Path | None = Field(default=None, description="File that replaces $KUBECONFIG and ~/.kube/config")
    context: str | None = Field(default=None, description="Context in the kubeconfig; default: the current one")
    timeout: Duration = Field(default=10.0, gt=0, description="Deadline for one answer")


class Kubernetes:
    """Reads and writes objects of any kind. Every write carries the `resourceVersion` that it is based on."""

    package = "kubernetes"
    imports = ("kubernetes.aio.client", "kubernetes.aio.config")
    setting = "kubernetes"

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._api: Any = None
        self._connecting = asyncio.Lock()  # concurrent first requests connect once
        self._retired: list[Any] = []
        self._served: dict[str, tuple[float, frozenset[str]]] = {}  # by API group: time of discovery, and its resources

    @classmethod
    async def connect(cls, settings: KubernetesSettings | None) -> Self:
        return cls(settings or KubernetesSettings())

    async def close(self) -> None:
        opened, self._api, self._retired = [*self._retired, self._api], None, []
        for client in filter(None, opened):
            await client.close()

    async def _retire(self, api: Any) -> None:
        """Makes the next request connect again.

        Running requests may still use this connection, so it is closed when the next connection retires.
        """
        if self._api is api:
            earlier, self._api, self._retired = self._retired, None, [api]
            for client in earlier:
                await client.close()

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """The object; None if there is none. Raises Forbidden, StepFailed and Unavailable."""
        if not await self.serves(kind):
            return None
        status, answer = await self.request("GET", path_of(kind, namespace, name))
        return None if status == 404 else good(status, answer, f"{kind} {namespace}/{name}", metadata=dict)

    async def serves(self, kind: str) -> bool:
        """Whether the cluster serves this kind, by discovery. Raises StepFailed and Unavailable."""
        home = HOMES[kind]
        if home in ALWAYS:
            return True
        now = asyncio.get_running_loop().time()
        discovered_at, names = self._served.get(home, (0.0, frozenset()))
        if home not in self._served or now - discovered_at > _DISCOVERED_FOR:
            status, answer = await self.request("GET", f"/{home}")
            if status in (401, 403):
                return True  # discovery is forbidden: the request for the kind itself decides
            found = [] if status == 404 else good(status, answer, f"kinds of /{home}", resources=list)["resources"]
            names = frozenset(str(resource.get("name")) for resource in found if isinstance(resource, dict))
            self._served[home] = now, names
        return plural(kind) in names

    async def events(self, namespace: str, *, most: int = 5000) -> list[Object]:
        """The recent events of a namespace; a cluster keeps them for about an hour."""
        found: list[Object] = []
        query = {"limit": "500"}
        while True:
            status, answer = await self.request("GET", path_of("Event", namespace), query)
            page = good(status, answer, f"the events of {namespace}", metadata=dict)
            found += items(status, page, f"the events of {namespace}")
            more = page["metadata"].get("continue")
            if not more or len(found) >= most:
                return found
            query = {"limit": "500", "continue": more}

    async def list(
        self, kind: str, namespace: str, labels: dict[str, str] | None = None, *, selector: str = ""
    ) -> list[Object]:
        """The objects of a namespace, by labels; empty if the cluster does not serve the kind."""
        if not await self.serves(kind):
            return []
        selector = selector or ",".join(f"{k}={v}" for k, v in (labels or {}).items())
        query = {"labelSelector": selector} if selector else {}
        status, answer = await self.request("GET", path_of(kind, namespace), query)
        found = [] if status == 404 else items(status, answer, f"the {many(kind)} of {namespace}")
        return [{"kind": kind, **item} for item in found]  # items of a list have no kind

    async def log(
        self, namespace: str, pod: str, container: str, *, since: datetime, lines: int, previous: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """Streams the newest lines of a container since that time, with timestamps.

        `previous`: from before its restart, regardless of the time.
        """
        query = {"container": container, "timestamps": "true", "tailLines": str(lines)}
        query |= {"previous": "true"} if previous else {"sinceTime": since.strftime("%Y-%m-%dT%H:%M:%SZ")}
        async with aclosing(self._stream(f"{path_of('Pod', namespace, pod)}/log", query)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def patch(self, found: Object, operations: Iterable[Object], *, dry_run: bool = False) -> Object:
        """Applies a JSON patch to this version of the object and returns the new version.

        Raises Unavailable if the object was changed since; the caller reads and decides again.
        """
        kind, meta = found["kind"], found["metadata"]
        # `replace`, not `test`: a stale version is then a 409, while a failed test is a 422 like any other error.
        version = {"op": "replace", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]}
        status, answer = await self.request(
            "PATCH",
            path_of(kind, meta["namespace"], meta["name"]),
            {"dryRun": "All"} if dry_run else {},
            body=[version, *operations],
            content_type="application/json-patch+json",
        )
        return good(status, answer, f"{kind} {meta['namespace']}/{meta['name']}", metadata=dict)

    async def delete_pod(self, pod: Object) -> None:
        """Deletes this pod, but not a newer pod of the same name."""
        meta = pod["metadata"]
        status, answer = await self.request(
            "DELETE",
            path_of("Pod", meta["namespace"], meta["name"]),
            body={"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": meta["uid"]}},
        )
        if status not in (404, 409):
            good(status, answer, f"pod {meta['namespace']}/{meta['name']}")

    async def may(self, verb: str, kind: str, namespace: str, name: str = "", subresource: str = "") -> bool:
        """Whether this account has the permission for this object, or for all in the namespace."""
        home = HOMES[kind].split("/")
        group = home[1] if home[0] == "apis" else ""
        attributes = {"verb": verb, "group": group, "resource": plural(kind), "namespace": namespace}
        attributes |= {key: given for key, given in (("name", name), ("subresource", subresource)) if given}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        status, answer = await self.request(
            "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review
        )
        return bool(good(status, answer, "the permissions of this account", status=dict)["status"].get("allowed"))

    async def request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: Any = None,
        content_type: str = "application/json",
    ) -> tuple[int, Object]:
        """Returns status and answer. Raises Unavailable without an answer, and for an error that a retry may resolve.

        An answer that is not a JSON object becomes an object with only a `message`.
        """
        status, answer = await self._send(method, path, query, body, content_type)
        if is_temporary(status):
            raise failure(status, answer)
        return status, answer

    async def _send(
        self, method: str, path: str, query: dict[str, str] | None, body: Any, content_type: str
    ) -> tuple[int, Object]:
        api = await self._connected()
        status, answer = await self._send_over(api, method, path, query, body, content_type)
        if status == 401:  # an expired token: an exec plugin or the mounted file has a new one
            await self._retire(api)
            status, answer = await self._send_over(await self._connected(), method, path, query, body, content_type)
        return status, answer

    async def _send_over(
        self, api: Any, method: str, path: str, query: dict[str, str] | None, body: Any, content_type: str
    ) -> tuple[int, Object]:
        if method != "GET":
            acting.get()()
        with self._unavailable():
            response = (await self._call(api, method, path, query, body, content_type)).response
            try:
                return response.status, await _read(response)
            finally:
                response.release()

    async def _call(
        self, api: Any, method: str, path: str, query: dict[str, str] | None, body: Any, content_type: str
    ) -> Any:
        from aiohttp import ClientTimeout  # slow to import

        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": MANAGER}
        for auth in (await api.configuration.auth_settings()).values():
            headers[auth["key"]] = auth["value"]
        url = f"{api.configuration.host}{path}{'?' + urlencode(query) if query else ''}"
        within = ClientTimeout(total=self._settings.timeout)
        return await api.call_api(method, url, headers, body=body, _request_timeout=within)

    async def _stream(self, path: str, query: dict[str, str]) -> AsyncGenerator[bytes, None]:
        """Streams the text of an answer. Raises like `request`."""
        with self._unavailable():
            response = (await self._call(await self._connected(), "GET", path, query, None, "text/plain")).response
            try:
                if response.status >= 300:
                    good(response.status, await _read(response), path)
                async for chunk in response.content.iter_any():
                    yield chunk
            finally:
                response.close()

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        """Raises Unavailable for an error of a request or of its answer."""
        import aiohttp  # slow to import

        try:
            yield
        except TimeoutError:
            raise Unavailable(f"the Kubernetes API did not answer within {self._settings.timeout:g} s") from None
        except (aiohttp.ClientError, OSError, TooLong) as e:
            raise Unavailable(f"the Kubernetes API: {e or type(e).__name__}") from e

    async def _connected(self) -> Any:
        async with self._connecting:
            self._api = self._api or await self._connect()
            return self._api

    async def _connect(self) -> Any:
        config, client = await asyncio.to_thread(_sdk)
        configuration = client.Configuration()
        file = self._settings.kubeconfig
        try:
            if file is None and self._settings.context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=configuration)
            else:
                await config.load_kube_config(
                    config_file=str(file) if file else None,
                    context=self._settings.context,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (config.ConfigException, yaml.YAMLError, OSError, KeyError, TypeError) as e:
            raise StepFailed(f"no Kubernetes cluster is configured: {e}") from e
        configuration.retries = None  # the gateway retries, within its own deadline
        return client.ApiClient(configuration)


async def _read(response: Any) -> Object:
    """The answer. Raises Unavailable, with the pause that the server requests, if a retry may succeed."""
    found: Object = decoded(await body_of(response))
    if is_temporary(response.status):
        raise failure(response.status, found, retry_after(response.headers) or 0.0)
    return found


def _sdk() -> tuple[Any, Any]:
    """The SDK. Its import takes half a second or more, so it happens late and off the event loop."""
    from kubernetes.aio import client, config

    return config, client
