"""Amazon's services, and others that speak like them: off the event loop, with errors that say what to do next."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr

from responder.config.durations import Duration
from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting

_WORTH_ANOTHER_TRY = {
    "InternalError",
    "InternalFailure",
    "OperationAborted",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}


class AwsSettings(BaseModel):
    """How Amazon, or a store that speaks S3, is reached. Credentials come from where boto3 finds them, or from here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str = Field(default="us-east-1", description="Region of the buckets and functions")
    endpoint_url: HttpUrl | None = Field(
        default=None,
        description="Of all services, as another store that speaks S3 (MinIO, Ceph); for single ones `endpoints`",
    )
    endpoints: dict[str, HttpUrl] = Field(
        default_factory=dict,
        description="The same for single services, by boto3's names, as {cloudfront: …}",
    )
    access_key_id: str | None = Field(default=None, description="Where the usual places (environment, role) have none")
    secret_access_key: SecretStr | None = Field(default=None, description="As ${AWS_SECRET_ACCESS_KEY}")
    timeout: Duration = Field(default=30.0, gt=0, description="Longest silence on one connection")
    connections: int = Field(default=32, ge=1, le=512, description="Requests at once")


class AwsRefused(StepFailed):
    """An answer that another try would not change. `code` is Amazon's, as `NoSuchKey` or `PreconditionFailed`; where
    something else wrote the body, it is the status.
    """

    def __init__(self, message: str, code: str, status: int = 0) -> None:
        super().__init__(message)
        self.code, self.status = code, status

    @property
    def is_missing(self) -> bool:
        """Whether there is no such object. A bucket that is missing is a mistake."""
        return self.code in ("NoSuchKey", "NotFound") or (self.status == 404 and self.code in ("404", "Unknown", ""))


class Aws:
    """One client for each of Amazon's services, made when it is first asked for."""

    package = "boto3"

    def __init__(self, settings: AwsSettings) -> None:
        self._settings = settings
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()
        self._threads = ThreadPoolExecutor(settings.connections, thread_name_prefix="aws")

    @classmethod
    async def connect(cls, settings: AwsSettings | None) -> Self:
        return cls(settings or AwsSettings())

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.close()

    @property
    def connections(self) -> int:
        """How many requests there can be at once."""
        return self._settings.connections

    async def read(self, service: str, operation: str, **params: Any) -> dict[str, Any]:
        """A call that changes nothing, as `read("s3", "head_object", Bucket=…)`. Raises Unavailable and AwsRefused."""
        return await self._call(service, operation, params)

    async def write(self, service: str, operation: str, **params: Any) -> dict[str, Any]:
        """A call that changes something: only while we may act."""
        acting.get()()
        return await self._call(service, operation, params)

    async def content(self, bucket: str, key: str) -> tuple[bytes, dict[str, Any]] | None:
        """A small object of S3, and how it is stored; None where there is none."""

        def get() -> tuple[bytes, dict[str, Any]]:
            answer = self.client("s3").get_object(Bucket=bucket, Key=key)
            return answer["Body"].read(), answer

        try:
            found: tuple[bytes, dict[str, Any]] = await self.in_thread(get)
        except AwsRefused as refused:
            if refused.is_missing:
                return None
            raise
        return found

    async def in_thread(self, work: Any, *args: Any) -> Any:
        """Blocking work with what `client` hands out, with the same errors."""
        wrong: Any = await asyncio.to_thread(import_module, "botocore.exceptions")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        except wrong.ClientError as e:
            error = e.response.get("Error", {})
            code, status = error.get("Code", ""), e.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if (status >= 500 and code != "NotImplemented") or status in (408, 429) or code in _WORTH_ANOTHER_TRY:
                raise Unavailable(f"{e} ({status})") from e
            raise AwsRefused(str(e) if code else f"{e.operation_name}: answered {status}", code, status) from e
        except (wrong.NoCredentialsError, wrong.PartialCredentialsError, wrong.ParamValidationError) as e:
            raise StepFailed(str(e)) from e
        except (wrong.BotoCoreError, wrong.HTTPClientError, OSError) as e:
            raise Unavailable(str(e)) from e

    def client(self, service: str) -> Any:
        """The boto3 client of a service, safe to use from several threads. Made slowly: ask for it in a thread."""
        with self._making:
            if service not in self._clients:
                self._clients[service] = self._made(service)
            return self._clients[service]

    def _made(self, service: str) -> Any:
        import boto3
        from botocore.config import Config

        settings, secret = self._settings, self._settings.secret_access_key
        endpoint = settings.endpoints.get(service, settings.endpoint_url)
        return boto3.session.Session().client(
            service,
            region_name=settings.region,
            endpoint_url=str(endpoint).rstrip("/") if endpoint else None,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(
                connect_timeout=settings.timeout,
                read_timeout=settings.timeout,
                max_pool_connections=settings.connections,
                retries={"mode": "standard", "total_max_attempts": 2},
                request_checksum_calculation="when_required",  # stores that are not Amazon's know no others
                response_checksum_validation="when_required",
            ),
        )

    async def _call(self, service: str, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await self.in_thread(lambda: getattr(self.client(service), operation)(**params))
        return answer
