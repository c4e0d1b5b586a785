"""The responder's clients without sockets and boto3, for the many drills; other tests cover sockets and SDKs."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from responder.backends.sites.cdn_client import Cloudflare, Fastly
from responder.transport.acting import acting
from responder.transport.aws import Aws, AwsRefused
from responder.transport.http_client import Answer
from tests.cdns.amazon import KEYS, NS, Amazon
from tests.cdns.connected import aws_settings, cloudflare_settings, fastly_settings
from tests.cdns.others import FakeCloudflare, FakeFastly
from tests.cdns.signatures import sign
from tests.cdns.wire import Request, Response

_CONDITIONS = {"IfMatch": "if-match", "IfNoneMatch": "if-none-match"}
_KEPT = {"ContentType": "content-type", "CacheControl": "cache-control", "ContentEncoding": "content-encoding"}
_WRITES = ("put_object", "copy_object", "delete_object", "put_key", "update_distribution", "create_invalidation")
_ANSWERS: dict[str, dict[str, Any]] = {
    "get_object_acl": {"Grants": []},
    "get_object_tagging": {"TagSet": []},
    "create_multipart_upload": {"UploadId": "u1"},
    "abort_multipart_upload": {},
}
_SIGNED = "AWS4-HMAC-SHA256 Credential=good/1/us-east-1/cloudfront/aws4_request, …"


class StraightAws(Aws):
    def __init__(self, amazon: Amazon) -> None:
        super().__init__(aws_settings("http://amazon.test", connections=1))
        self._amazon = amazon

    async def content(self, bucket: str, key: str) -> tuple[bytes, dict[str, Any]] | None:
        try:
            response = self._ask("s3", "GET", f"/{bucket}/{key}")
        except AwsRefused:
            return None
        return response.body, _stored(response)

    async def read(self, service: str, operation: str, **params: Any) -> dict[str, Any]:
        if operation in _WRITES:  # a probe that is always refused
            return self._act(service, operation, params)
        if operation in _ANSWERS:
            return _ANSWERS[operation]
        match operation:
            case "list_objects_v2":
                response = self._ask(service, "GET", f"/{params['Bucket']}?prefix={params['Prefix']}")
                return {
                    "Contents": [
                        _object(element) for element in ET.fromstring(response.body) if element.tag == "Contents"
                    ]
                }
            case "head_object":
                return _stored(self._ask(service, "HEAD", f"/{params['Bucket']}/{params['Key']}"))
            case "describe_key_value_store":
                return dict(self._ask(service, "GET", f"/key-value-stores/{quote(params['KvsARN'])}").headers)
            case "get_key":
                path = f"/key-value-stores/{quote(params['KvsARN'])}/keys/{params['Key']}"
                return dict(json.loads(self._ask(service, "GET", path).body))
        root = f"/2020-05-31/distribution/{params.get('DistributionId') or params['Id']}"
        match operation:
            case "get_distribution_config":
                response = self._ask(service, "GET", f"{root}/config")
                return {"ETag": response.headers["ETag"], "DistributionConfig": _config(response.body.decode())}
            case "get_distribution":
                body = self._ask(service, "GET", root).body.decode()
                status = ET.fromstring(body).findtext(f"{{{NS}}}Status")
                return {"Distribution": {"Status": status, "DistributionConfig": _config(body)}}
            case "list_invalidations":
                found = ET.fromstring(self._ask(service, "GET", f"{root}/invalidation").body)
                return {"InvalidationList": {"Items": [{"Id": element.text} for element in found.iter(f"{{{NS}}}Id")]}}
            case "get_invalidation":
                found = ET.fromstring(self._ask(service, "GET", f"{root}/invalidation/{params['Id']}").body)
                batch = {"CallerReference": next(found.iter(f"{{{NS}}}CallerReference")).text}
                return {"Invalidation": {"Status": found.findtext(f"{{{NS}}}Status"), "InvalidationBatch": batch}}
        raise AssertionError(f"the drills do not know {operation}")

    async def write(self, service: str, operation: str, **params: Any) -> dict[str, Any]:
        acting.get()()
        return self._act(service, operation, params)

    def _act(self, service: str, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        headers = {h: params[name] for name, h in (_CONDITIONS | _KEPT).items() if name in params}
        match operation:
            case "put_object" | "copy_object" | "delete_object":
                if source := params.get("CopySource"):
                    headers["x-amz-copy-source"] = f"{source['Bucket']}/{source['Key']}"
                method = "DELETE" if operation == "delete_object" else "PUT"
                path = f"/{params['Bucket']}/{params['Key']}"
                self._ask(service, method, path, params.get("Body", b""), **headers)
            case "put_key":
                path = f"/key-value-stores/{quote(params['KvsARN'])}/keys/{params['Key']}"
                self._ask(service, "PUT", path, json.dumps({"Value": params["Value"]}).encode(), **headers)
            case "update_distribution":
                config = params["DistributionConfig"]
                body = config["as it is"].replace(config["was"], config["Origins"]["Items"][0]["OriginPath"])
                self._ask(service, "PUT", f"/2020-05-31/distribution/{params['Id']}/config", body.encode(), **headers)
            case "create_invalidation":
                batch = params["InvalidationBatch"]
                paths = "".join(f"<Path>{path}</Path>" for path in batch["Paths"]["Items"])
                paths_xml = f"<Paths><Quantity>{batch['Paths']['Quantity']}</Quantity><Items>{paths}</Items></Paths>"
                paths_xml += f"<CallerReference>{batch['CallerReference']}</CallerReference>"
                body = f'<InvalidationBatch xmlns="{NS}">{paths_xml}</InvalidationBatch>'
                path = f"/2020-05-31/distribution/{params['DistributionId']}/invalidation"
                self._ask(service, "POST", path, body.encode())
            case _:
                raise AssertionError(f"the drills do not know {operation}")
        return {}

    def _ask(self, service: str, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        request = Request.of(method, path, headers, body)
        if service == KEYS:
            sign(request, service)
        else:
            request.headers["authorization"] = _SIGNED
        response = self._amazon.answer(request)
        if response.status >= 300:
            code = (
                response.headers.get("x-amzn-ErrorType")
                or response.body.decode().split("<Code>")[1].split("</Code>")[0]
            )
            raise AwsRefused(f"{code} of {path}", code)
        return response


def _stored(response: Response) -> dict[str, Any]:
    kept = {name: response.headers.get(header) for name, header in _KEPT.items()}
    return {"ETag": response.headers["ETag"], "Restore": response.headers.get("x-amz-restore"), **kept}


def _object(element: ET.Element) -> dict[str, Any]:
    fields = {child.tag: child.text for child in element}
    return {**fields, "Size": int(fields["Size"] or 0)}


def _config(body: str) -> dict[str, Any]:
    path = body.split("<OriginPath>")[1].split("</OriginPath>")[0]
    return {"Origins": {"Items": [{"Id": "s3", "OriginPath": path}]}, "was": path, "as it is": body}


class StraightCloudflare(Cloudflare):
    def __init__(self, fake: FakeCloudflare) -> None:
        super().__init__(cloudflare_settings("http://cloudflare.test"))
        self._fake = fake

    async def _send(self, method: str, path: str, body: Any, headers: Any) -> Answer:
        response = self._fake.answer(Request.of(method, path, headers, json.dumps(body).encode()))
        return Answer(response.status, response.headers, response.body)


class StraightFastly(Fastly):
    def __init__(self, fake: FakeFastly) -> None:
        super().__init__(fastly_settings("http://fastly.test"))
        self._fake = fake

    async def _send(self, method: str, path: str, body: Any, headers: Any) -> Answer:
        response = self._fake.answer(Request.of(method, path, headers, json.dumps(body).encode()))
        return Answer(response.status, response.headers, response.body)
