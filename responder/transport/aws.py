"""AWS services and compatible ones, called in threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any, Self

from pydantic import Field, HttpUrl, SecretStr

from foundation.durations import Duration
from foundation.models import StrictModel
from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting

_TEMPORARY = {
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


class AwsSettings(StrictModel):
    """Access to AWS, or to another store with the S3 API. Without keys here, boto3 looks for its usual credentials."""

    region: str = Field(default="us-east-1", description="Region of the buckets and functions")
    endpoint_url: HttpUrl | None = Field(
        default=None,
        description="Endpoint of another store with the S3 API, such as MinIO or Ceph",
    )
    endpoints: dict[str, HttpUrl] = Field(
        default_factory=dict,
        description="Endpoints by boto3 service name, such as {cloudfront: …}",
    )
    access_key_id: str | None = Field(default=None, description="Access key; default: from the environment or role")
    secret_access_key: SecretStr | None = Field(
        default=None, description="Its secret, such as ${AWS_SECRET_ACCESS_KEY}"
    )
    timeout: Duration = Field(default=30.0, gt=0, description="Longest pause without data on a connection")
    connections: int = Field(default=32, ge=1, le=512, description="Concurrent requests")


class AwsRefused(StepFailed):
    """AWS refused a request, and a retry would not help.

    `code` is the error code of AWS, such as `NoSuchKey`, or the status if a proxy wrote the body.
    """

    def __init__(self, message: str, code: str, status: int = 0) -> None:
        super().__init__(message)
        self.code, self.status = code, status

    @property
    def is_missing(self) -> bool:
        """Whether the object does not exist. A missing bucket is another error."""
        return self.code in ("NoSuchKey", "NotFound") or (self.status == 404 and self.code in ("404", "Unknown", ""))


def now_at(answer: dict[str, Any]) -> datetime:
    """The time on the clock of the service that answered; that of this host if the answer has no date."""
    with contextlib.suppress(KeyError, ValueError, TypeError):
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    return datetime.now(UTC)


class Aws:
    """Clients of AWS services, each made on first use."""

    package = "boto3"
    imports = ("boto3", "botocore.config", "botocore.exceptions")
    setting = "aws"

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
        """Requests at the same time."""
        return self._settings.connections

    async def read(self, service: str, operation: str, **params: Any) -> dict[str, Any]:
        """Calls a read-only operation: `read("s3", "head_object", Bucket=…)`. Raises Unavailable and AwsRefused."""
        return await self._call(service, operation, params)

    async def write(self, service: str, operation: str, **params: Any) -> dict[str, Any]:
        """Calls an operation that changes something, after checking the lease."""
        acting.get()()
        return await self._call(service, operation, params)

    async def content(self, bucket: str, key: str) -> tuple[bytes, dict[str, Any]] | None:
        """Returns the content of an S3 object and its metadata, or None if it does not exist."""

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

    async def objects(self, bucket: str, prefix: str) -> list[dict[str, Any]]:
        """Returns all S3 objects whose key begins with the prefix, with `Key`, `Size`, `ETag` and `LastModified`."""
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            page = await self.read("s3", "list_objects_v2", Bucket=bucket, Prefix=prefix, **token)
            found += page.get("Contents", ())
            if not page.get("IsTruncated"):
                return found
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def in_thread(self, work: Any, *args: Any) -> Any:
        """Runs blocking work with a client of `client`. Raises the same errors."""
        wrong: Any = await asyncio.to_thread(import_module, "botocore.exceptions")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        except wrong.ClientError as e:
            error = e.response.get("Error", {})
            code, status = error.get("Code", ""), e.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if (status >= 500 and code != "NotImplemented") or status in (408, 429) or code in _TEMPORARY:
                raise Unavailable(f"{e} ({status})") from e
            raise AwsRefused(str(e) if code else f"{e.operation_name}: answered {status}", code, status) from e
        except (wrong.NoCredentialsError, wrong.PartialCredentialsError, wrong.ParamValidationError) as e:
            raise StepFailed(str(e)) from e
        except (wrong.BotoCoreError, wrong.HTTPClientError, OSError) as e:
            raise Unavailable(str(e)) from e

    def client(self, service: str) -> Any:
        """Returns the thread-safe boto3 client of a service. Slow on first use: call it in a thread."""
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
                request_checksum_calculation="when_required",  # other stores do not support the default
                response_checksum_validation="when_required",
            ),
        )

    async def _call(self, service: str, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await self.in_thread(lambda: getattr(self.client(service), operation)(**params))
        return answer
