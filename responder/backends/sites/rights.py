"""Whether AWS allows a write, without a change: requests whose condition or size cannot be fulfilled."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from responder.backends.problems import Problem
from responder.transport.aws import Aws, AwsRefused

NEVER = "rollback-responder-check"
"""An ETag that no object has, and the name of a path that no site has."""

_RIGHTS = {"ACL": "s3:PutObjectAcl", "Tagging": "s3:PutObjectTagging", "SSEKMSKeyId": "kms:GenerateDataKey"}
"""What a write needs besides s3:PutObject, by its parameter."""

_DENIED = ("AccessDenied", "AccessDeniedException", "AllAccessDisabled", "Forbidden")


def is_denied(refused: AwsRefused) -> bool:
    """Whether the credentials lack the permission. AWS checks it before the content of a request."""
    return refused.code in _DENIED or refused.status in (401, 403)


async def write_problems(aws: Aws, what: object, service: str, operation: str, **request: Any) -> list[Problem]:
    """The missing permission for a write that AWS refuses for another reason: its condition cannot hold."""
    try:
        await aws.read(service, operation, **request)
    except AwsRefused as refused:
        if is_denied(refused):
            action = "".join(part.capitalize() for part in operation.split("_"))
            return [Problem(str(what), f"may not be changed: {refused}", f"allow {service}:{action}")]
    return []


async def put_problems(aws: Aws, bucket: str, key: str, **stored: Any) -> list[Problem]:
    """The missing permission to write an object: starts an upload of it, and aborts it without content."""
    try:
        upload = await aws.read("s3", "create_multipart_upload", Bucket=bucket, Key=key, **stored)
    except AwsRefused as refused:
        rights = " and ".join(["s3:PutObject", *(right for name, right in _RIGHTS.items() if name in stored)])
        found = f"may not be written: {refused}"
        return [Problem(f"s3://{bucket}/{key}", found, f"allow {rights}")] if is_denied(refused) else []
    with suppress(AwsRefused):
        await aws.read("s3", "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload["UploadId"])
    return []
