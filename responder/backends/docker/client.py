"""A Docker Engine client. Each method is one request, so a crash falls between two requests."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Awaitable
from datetime import datetime
from typing import Any, Self, TypeVar

from pydantic import Field

from foundation.durations import Duration
from foundation.models import StrictModel
from responder.backends.docker.answers import answered, meaning, statuses
from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting

Object = dict[str, Any]
T = TypeVar("T")

_MAX_LOG_TAIL = 600
"""Characters kept of the end of a failed container's log."""


async def all_of(*changes: Awaitable[Any]) -> None:
    """Makes changes at the same time, waits for all of them, and then raises the first error."""
    results = await asyncio.gather(*changes, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


class DockerSettings(StrictModel):
    """How to reach the engine. Its socket grants root on that host: prefer a socket proxy."""

    host: str | None = Field(
        default=None,
        pattern=r"^(unix|tcp|https?)://",
        description="URL such as unix:///var/run/docker.sock; default: $DOCKER_HOST or the usual sockets",
    )
    timeout: Duration = Field(
        default=30.0, gt=0, description="Deadline for one answer, plus the stop timeout of a container"
    )
    pull_within: Duration = Field(default=300.0, gt=0, description="Deadline for pulling an image")


class Docker:
    """Reads and changes the containers and images of one engine."""

    package = "aiodocker"
    setting = "docker"

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self._engine: Any = None

    @classmethod
    async def connect(cls, settings: DockerSettings | None) -> Self:
        return cls(settings or DockerSettings())

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.close()
            self._engine = None

    async def container(self, name: str) -> Object | None:
        """The container in the format of `docker inspect`; None if it does not exist."""
        return await self._maybe(self._api().containers.container(name).show(), f"container {name}")

    async def containers(self, labels: dict[str, str]) -> list[Object]:
        """All containers with these labels, also stopped, in the format of `docker inspect`."""
        label_filters = [f"{key}={value}" for key, value in labels.items()]
        found = await self._ask(
            self._api().containers.list(all=True, filters={"label": label_filters}), "the containers"
        )
        shown = await asyncio.gather(*(self.container(container.id) for container in found))
        return [container for container in shown if container is not None]

    async def never_started(self, label: str, named: str) -> list[Object]:
        """All containers with this label and this text in the name that were never started."""
        filters = {"label": [label], "name": [named], "status": ["created"]}
        found = await self._ask(self._api().containers.list(all=True, filters=filters), "the containers")
        shown = await asyncio.gather(*(self.container(container.id) for container in found))
        return [container for container in shown if container is not None]

    async def image(self, name: str) -> Object | None:
        """The image in the format of `docker image inspect`; None if it is not on this host."""
        return await self._maybe(self._api().images.inspect(name), f"image {name}")

    async def pull(self, name: str) -> None:
        """Pulls an image. Raises StepFailed if the registry does not have it."""
        await self._ask(self._api().images.pull(name), f"pulling {name}", within=self._settings.pull_within)

    async def create(self, name: str, config: Object) -> str:
        """Creates a container without starting it, and returns its ID."""
        acting.get()()
        made = await self._ask(self._api().containers.create(config, name=name), f"creating {name}")
        return str(made.id)

    async def join(self, container: str, network: str, endpoint: Object) -> None:
        """Connects a container to another network, with the given aliases and addresses."""
        acting.get()()
        body = {"Container": container, "EndpointConfig": endpoint}
        api = self._api()

        async def connect() -> None:
            found = await api.networks.get(network)
            await found.connect(body)

        await self._ask(connect(), f"connecting {container} to {network}")

    async def start(self, name: str) -> None:
        acting.get()()
        await self._ask(self._api().containers.container(name).start(), f"starting {name}")

    async def stop(self, name: str, *, within: float) -> None:
        """Stops the container and kills it after `within` seconds."""
        acting.get()()
        stopping = self._api().containers.container(name).stop(t=round(within))
        await self._ask(stopping, f"stopping {name}", within=within + self._settings.timeout)

    async def rename(self, name: str, to: str) -> None:
        acting.get()()
        await self._ask(self._api().containers.container(name).rename(to), f"renaming {name} to {to}")

    async def set_restart_policy(self, name: str, policy: Object) -> None:
        """Sets what the engine does when the container exits by itself or the engine restarts."""
        acting.get()()
        api = self._api()
        asking = api._query_json(f"containers/{name}/update", "POST", data={"RestartPolicy": policy})
        await self._ask(asking, f"changing the restart policy of {name}")

    async def remove(self, name: str) -> None:
        """Removes a stopped container. No error if it does not exist or is already being removed."""
        acting.get()()
        await self.discard(name)

    async def discard(self, container: str) -> None:
        """Like `remove`, but without the lease: for a container that only this process uses."""
        try:
            await self._maybe(self._api().containers.container(container).delete(), f"removing {container}")
        except StepFailed as failure:
            if "is already in progress" not in str(failure):
                raise

    async def commit(self, name: str) -> str:
        """Commits a stopped container, without its volumes, to a new image and returns the image ID."""
        acting.get()()
        committing = self._api().containers.container(name).commit(message="Kept by the rollback responder")
        made = await self._ask(committing, f"committing {name}")
        return str(made["Id"])

    async def changes(self, name: str) -> list[Object]:
        """The differences between a container's files and its image, as in `docker diff`."""
        api = self._api()
        return await self._ask(api._query_json(f"containers/{name}/changes"), f"the changes in {name}") or []

    async def stat(self, name: str, path: str) -> Object | None:
        """Name, size, mode and time of a file in a container, running or stopped; None if it does not exist."""
        api = self._api()

        async def head() -> Object:
            async with api._query(f"containers/{name}/archive", "HEAD", params={"path": path}) as answer:
                return dict(json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"])))

        try:
            return await self._maybe(head(), f"inspecting {path} in {name}")
        except ValueError:  # a refused HEAD has no body, but aiodocker reads one
            return None

    async def archive(self, name: str, path: str) -> bytes | None:
        """A file in a container, running or stopped, as a tar archive; None if it does not exist."""
        api = self._api()

        async def get() -> bytes:
            async with api._query(f"containers/{name}/archive", params={"path": path}) as answer:
                return bytes(await answer.read())

        return await self._maybe(get(), f"reading {path} in {name}")

    async def unpack(self, name: str, archive: bytes) -> None:
        """Unpacks a tar archive at the root of a container."""
        acting.get()()
        api = self._api()
        headers = {"Content-Type": "application/x-tar"}

        async def put() -> None:
            async with api._query(
                f"containers/{name}/archive", "PUT", params={"path": "/"}, data=archive, headers=headers
            ):
                pass

        await self._ask(put(), f"copying files into {name}")

    async def refuses(self, method: str, path: str, params: Object, body: Object | None) -> str:
        """Why a call is refused, such as by a socket proxy; empty if it reaches the engine."""
        call = f"{method} /{path}"
        try:
            await self._maybe(self._api()._query_json(path, method, params=params, data=body), call)
        except StepFailed as failure:
            # 400 is the engine's own answer to an invalid name.
            return "" if answered.get()[0] == 400 else str(failure).removeprefix(f"{call}: ")
        return ""

    async def log_tail(self, name: str) -> str:
        """The end of a container's log."""
        lines = await self._maybe(
            self._api().containers.container(name).log(stdout=True, stderr=True, tail=10), f"the log of {name}"
        )
        return "".join(lines or ()).strip()[-_MAX_LOG_TAIL:]

    async def log(self, container: str, *, since: datetime, lines: int) -> AsyncGenerator[bytes, None]:
        """Streams the newest log lines of a container, running or stopped, since that time, with timestamps."""
        import aiohttp
        from aiodocker.exceptions import DockerError

        api, doing = self._api(), f"the log of {container}"
        params = {"stdout": True, "stderr": True, "timestamps": True, "since": int(since.timestamp()), "tail": lines}
        try:
            handle = api.containers.container(container)
            async for text in handle._logs_stream(api._query(f"containers/{container}/logs", params=params)):
                yield text.encode()
        except DockerError as e:
            raise meaning(doing, e.status, e.message) from e
        except (aiohttp.ClientError, OSError, ValueError, LookupError) as e:
            if answered.get()[0] >= 400:
                raise meaning(doing, answered.get()[0], "") from e
            raise Unavailable(f"{doing}: the Docker Engine: {e or type(e).__name__}") from e

    def _api(self) -> Any:
        if self._engine is None:
            from aiodocker import Docker as Engine

            try:
                self._engine = Engine(url=self._settings.host)
                self._engine.session.trace_configs.append(statuses())
            except (ValueError, OSError, AssertionError) as e:  # AssertionError: no socket exists
                raise StepFailed(f"no Docker Engine is configured: {e or 'none of the usual sockets exists'}") from e
        return self._engine

    async def _maybe(self, asking: Awaitable[T], doing: str) -> T | None:
        from aiodocker.exceptions import DockerError

        try:
            return await self._ask(asking, doing)
        except StepFailed as failure:
            if isinstance(failure.__cause__, DockerError) and failure.__cause__.status == 404:
                return None
            raise

    async def _ask(self, asking: Awaitable[T], doing: str, *, within: float | None = None) -> T:
        import aiohttp
        from aiodocker.exceptions import DockerError

        within = within or self._settings.timeout
        answered.set((0, ""))
        try:
            async with asyncio.timeout(within):
                return await asking
        except TimeoutError:
            raise Unavailable(f"{doing}: the Docker Engine did not answer within {within:g} s") from None
        except DockerError as e:
            raise meaning(doing, e.status, e.message) from e
        except (aiohttp.ClientError, OSError, ValueError, LookupError, TypeError, AttributeError) as e:
            status, _ = answered.get()
            if status >= 400:
                raise meaning(doing, status, "") from DockerError(status, str(e))
            prefix = f"answered {status} with an unexpected body: " if status else ""
            raise Unavailable(f"{doing}: the Docker Engine: {prefix}{e or type(e).__name__}") from e
