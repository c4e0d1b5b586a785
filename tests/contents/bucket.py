"""Everything in a bucket: content, metadata, tags, rights and versions of every object."""

from __future__ import annotations

from typing import Any

from responder.transport.aws import Aws

_DERIVED = ("ResponseMetadata", "TagCount", "ETag", "ContentLength")
"""Of the answer, or of the content."""


async def furnish(aws: Aws, bucket: str, key: str) -> None:
    """Gives an object what others may have set on it: tags, a storage class, metadata and a KMS key."""
    body, metadata = await aws.content(bucket, key) or (b"", {})
    like = {name: metadata[name] for name in ("ContentType", "CacheControl") if metadata.get(name)}
    like |= {"Metadata": {"owner": "shop"}, "StorageClass": "INTELLIGENT_TIERING", "Tagging": "public=yes&team=a%20b"}
    like |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "a-key-of-the-shop"}
    await aws.write("s3", "put_object", Bucket=bucket, Key=key, Body=body, **like)


async def contents(aws: Aws, bucket: str) -> dict[str, Any]:
    """By key."""
    listed = await aws.read("s3", "list_objects_v2", Bucket=bucket)
    assert not listed["IsTruncated"], f"{bucket} has more objects than one page"
    uploads = await aws.read("s3", "list_multipart_uploads", Bucket=bucket)
    found: dict[str, Any] = {"unfinished": [upload["Key"] for upload in uploads.get("Uploads", ())]}
    for key in (item["Key"] for item in listed.get("Contents", ())):
        stored = await aws.content(bucket, key)
        about = await aws.read("s3", "head_object", Bucket=bucket, Key=key)
        tags = await aws.read("s3", "get_object_tagging", Bucket=bucket, Key=key)
        grants = await aws.read("s3", "get_object_acl", Bucket=bucket, Key=key)
        metadata = {name: value for name, value in about.items() if name not in _DERIVED}
        body, tag_set = stored and stored[0], tags["TagSet"]
        found[key] = {**metadata, "body": body, "tags": tag_set, "grants": grants["Grants"]}
    return found
