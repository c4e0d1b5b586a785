"""CloudFront with its API, its KeyValueStore and one edge, and its S3 origin."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

from tests.cdns import signatures
from tests.cdns.s3 import S3
from tests.cdns.wire import Refusal, Request, Response
from tests.contents.stand_ins import attributes

NS = "http://cloudfront.amazonaws.com/doc/2020-05-31/"
KEYS = "cloudfront-keyvaluestore"
RECORDED = ("requests", "copied", "deletes")
ARN = "arn:aws:cloudfront::123456789012:key-value-store/0a1b2c3d-0000-0000-0000-000000000000"
_CONFIG = (
    f'<DistributionConfig xmlns="{NS}"><CallerReference>made</CallerReference><Origins><Quantity>1</Quantity><Items>'
    "<Origin><Id>s3</Id><DomainName>shop.s3.amazonaws.com</DomainName><OriginPath>{path}</OriginPath></Origin></Items>"
    "</Origins><DefaultCacheBehavior><TargetOriginId>s3</TargetOriginId>"
    "<ViewerProtocolPolicy>redirect-to-https</ViewerProtocolPolicy></DefaultCacheBehavior><Comment>shop</Comment>"
    "<PriceClass>PriceClass_100</PriceClass><Enabled>true</Enabled></DistributionConfig>"
)


@dataclass
class Invalidation:
    id: str
    reference: str
    paths: tuple[str, ...]
    at: float
    created: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class Distribution:
    config: str
    etag: int = 1
    changed_at: float = -1e9
    path_before: str = ""  # edges use it until they are updated
    invalidations: list[Invalidation] = field(default_factory=list)
    cache: dict[str, bytes] = field(default_factory=dict)

    @property
    def origin_path(self) -> str:
        found = re.search(r"<OriginPath>(.*?)</OriginPath>", self.config)
        return found[1] if found else ""


class Amazon:
    """`takes`: seconds until edges apply an invalidation, a distribution or a key.

    Not known, and so not imitated: the order of checks within one request, apart from permissions, which come first;
    how long the listing of invalidations can lag; and how the edges differ while a change is deployed.
    """

    def __init__(self, *, takes: float = 0.0, clock: Callable[[], float] = time.monotonic, page: int = 1000) -> None:
        self.s3 = S3(page)
        self.takes, self.clock = takes, clock
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)  # the time for the expiry of signatures
        self.distributions = {"E1": Distribution(_CONFIG.format(path="/releases/2"))}
        self.keys: dict[str, str] = {"active": "2"}
        self.keys_etag = 1
        self.requests: list[Request] = []
        self.denied: set[str] = set()  # actions that the credentials may not use
        self.busy = 0  # running wildcard invalidations of others

    def contents(self) -> dict[str, Any]:
        """Everything but the record of the requests."""
        return attributes(self, without=RECORDED)

    def answer(self, request: Request) -> Response:
        self.requests.append(request)
        for start, act, service in (
            ("/2020-05-31/distribution/", self._cloudfront, "cloudfront"),
            ("/key-value-stores/", self._keys, KEYS),
            ("/edge/", self._edge, ""),
        ):
            if request.path.startswith(start):
                try:
                    self._authorized(request, service)
                    return act(request.path.removeprefix(start), request)
                except Refusal as no:
                    return self._refused(no, xml=service == "cloudfront")
        return self.s3.answer(request)

    def _authorized(self, request: Request, service: str) -> None:
        """KeyValueStore accepts only multi-region signatures (SigV4A); they are fully verified."""
        if service == KEYS:
            return signatures.check(request, service, self.now())
        authorization, scope = request.headers.get("authorization", ""), rf"\d+/us-east-1/{service}/aws4_request"
        if service and not re.match(f"AWS4-HMAC-SHA256 Credential={signatures.KEY_ID}/{scope},", authorization):
            raise Refusal(403, "AccessDenied", authorization[:40])
        return None

    @staticmethod
    def _refused(no: Refusal, *, xml: bool) -> Response:
        if not xml:
            return Response(no.status, json.dumps({"Message": no.message}).encode(), {"x-amzn-ErrorType": no.code})
        error = f"<Error><Type>Sender</Type><Code>{no.code}</Code><Message>{no.message}</Message></Error>"
        return Response(no.status, f'<ErrorResponse xmlns="{NS}">{error}</ErrorResponse>'.encode())

    def _allowed(self, action: str) -> None:
        """AWS checks permissions before the content of a request."""
        if action in self.denied:
            raise Refusal(403, "AccessDenied", f"User is not authorized to perform: {action}")

    # --- distributions and invalidations
    def _cloudfront(self, path: str, request: Request) -> Response:
        name, _, rest = path.partition("/")
        if name not in self.distributions:
            raise Refusal(404, "NoSuchDistribution", f"The specified distribution does not exist: {name}")
        distribution = self.distributions[name]
        match request.method, rest.partition("/")[::2]:
            case "GET", ("", ""):
                return Response(200, self._distribution(name, distribution), {"ETag": f"T{distribution.etag}"})
            case "GET", ("config", ""):
                return Response(200, distribution.config.encode(), {"ETag": f"T{distribution.etag}"})
            case "PUT", ("config", ""):
                self._allowed("UpdateDistribution")
                if not (wanted := request.headers.get("if-match", "")):
                    raise Refusal(400, "InvalidIfMatchVersion")
                if wanted != f"T{distribution.etag}":
                    raise Refusal(412, "PreconditionFailed")
                path = Distribution(request.body.decode()).origin_path
                if path and (not path.startswith("/") or path.endswith("/") or len(path) > 255):
                    raise Refusal(400, "InvalidArgument", f"The parameter OriginPath is invalid: {path}")
                distribution.path_before, distribution.changed_at = distribution.origin_path, self.clock()
                distribution.config, distribution.etag = request.body.decode(), distribution.etag + 1
                return Response(200, self._distribution(name, distribution), {"ETag": f"T{distribution.etag}"})
            case "POST", ("invalidation", ""):
                self._allowed("CreateInvalidation")
                return Response(201, self._invalidation(self._invalidate(distribution, request.body)).encode())
            case "GET", ("invalidation", ""):
                newest = distribution.invalidations[::-1][: int(request.query.get("MaxItems", 100))]
                items = "".join(
                    f"<InvalidationSummary><Id>{i.id}</Id><CreateTime>{i.created:%Y-%m-%dT%H:%M:%SZ}</CreateTime>"
                    f"<Status>{self._status(i)}</Status></InvalidationSummary>"
                    for i in newest
                )
                listing = f"<IsTruncated>false</IsTruncated><Quantity>{len(newest)}</Quantity><Items>{items}</Items>"
                listing = f"<Marker/><MaxItems>100</MaxItems>{listing}"
                return Response(200, f'<InvalidationList xmlns="{NS}">{listing}</InvalidationList>'.encode())
            case "GET", ("invalidation", which):
                if found := [i for i in distribution.invalidations if i.id == which]:
                    return Response(200, self._invalidation(found[0]).encode())
                raise Refusal(404, "NoSuchInvalidation")
        raise Refusal(400, "InvalidArgument", f"{request.method} {rest}")

    def _distribution(self, name: str, distribution: Distribution) -> bytes:
        status = "Deployed" if self.clock() - distribution.changed_at >= self.takes else "InProgress"
        head = f"<Id>{name}</Id><ARN>arn</ARN><Status>{status}</Status><DomainName>d1.cloudfront.net</DomainName>"
        return f'<Distribution xmlns="{NS}">{head}{distribution.config}</Distribution>'.encode()

    def _invalidate(self, distribution: Distribution, body: bytes) -> Invalidation:
        root = ET.fromstring(body)
        reference = str(root.findtext(f"{{{NS}}}CallerReference"))
        paths = tuple(str(p.text) for p in root.iter(f"{{{NS}}}Path"))
        if int(root.findtext(f"{{{NS}}}Paths/{{{NS}}}Quantity") or -1) != len(paths):
            raise Refusal(400, "InconsistentQuantities")
        if wrong := [p for p in paths if not p.startswith("/") or "*" in p[:-1] or not p.isascii() or " " in p]:
            raise Refusal(400, "InvalidArgument", f"invalid invalidation paths {wrong}")
        for known in distribution.invalidations:
            if known.reference == reference:
                if known.paths != paths:
                    raise Refusal(400, "InvalidationBatchAlreadyExists")
                return known
        under_way = sum(
            self._status(i) == "InProgress" and any("*" in p for p in i.paths) for i in distribution.invalidations
        )
        if self.busy + under_way >= 15:
            raise Refusal(400, "TooManyInvalidationsInProgress")
        made = Invalidation(f"I{len(distribution.invalidations) + 1}", reference, paths, self.clock())
        distribution.invalidations.append(made)
        return made

    def _status(self, invalidation: Invalidation) -> str:
        return "Completed" if self.clock() - invalidation.at >= self.takes else "InProgress"

    def _invalidation(self, invalidation: Invalidation) -> str:
        items = "".join(f"<Path>{path}</Path>" for path in invalidation.paths)
        batch = f"<Paths><Quantity>{len(invalidation.paths)}</Quantity><Items>{items}</Items></Paths>"
        batch = (
            f"<InvalidationBatch>{batch}<CallerReference>{invalidation.reference}</CallerReference></InvalidationBatch>"
        )
        summary = f"<Id>{invalidation.id}</Id><Status>{self._status(invalidation)}</Status>"
        summary += "<CreateTime>2026-11-26T00:00:00Z</CreateTime>"
        return f'<Invalidation xmlns="{NS}">{summary}{batch}</Invalidation>'

    # --- the KeyValueStore
    def _keys(self, path: str, request: Request) -> Response:
        arn, _, key = path.partition("/keys/")
        if arn != ARN:
            raise Refusal(404, "ResourceNotFoundException", "no such store")
        etag = f"K{self.keys_etag}"
        if not key:
            payload = {"KvsARN": ARN, "ItemCount": len(self.keys), "TotalSizeInBytes": 1, "Created": 0}
            return Response(200, json.dumps(payload).encode(), {"ETag": etag})
        if request.method == "PUT":
            self._allowed("PutKey")
            if request.headers.get("if-match") != etag:
                raise Refusal(409, "ConflictException", "Pre-condition failed")
            value = json.loads(request.body)["Value"]
            if len(key.encode()) > 512 or len(value.encode()) > 1024:
                raise Refusal(400, "ValidationException", "The key or value is too long")
            self.keys[key] = value
            self.keys_etag += 1
            body = json.dumps({"ItemCount": len(self.keys), "TotalSizeInBytes": 1}).encode()
            return Response(200, body, {"ETag": f"K{self.keys_etag}"})
        if key not in self.keys:
            raise Refusal(404, "ResourceNotFoundException", "no such key")
        payload = {"Key": key, "Value": self.keys[key], "ItemCount": len(self.keys), "TotalSizeInBytes": 1}
        return Response(200, json.dumps(payload).encode())

    # --- visitors: `/edge/E1/index.html` below the distribution's origin path
    def _edge(self, path: str, request: Request) -> Response:
        name, _, rest = path.partition("/")
        distribution = self.distributions[name]
        if distribution.invalidations and all(self._status(i) == "Completed" for i in distribution.invalidations[-1:]):
            last = distribution.invalidations[-1].id
            if distribution.cache.get("emptied by") != last.encode():
                distribution.cache = {"emptied by": last.encode()}
        if rest not in distribution.cache:
            followed = self.clock() - distribution.changed_at >= self.takes
            found = self.s3.objects.get(
                f"shop{distribution.origin_path if followed else distribution.path_before}/{rest}"
            )
            if found is None:
                return Response(404)
            distribution.cache[rest] = found.body
        return Response(200, distribution.cache[rest], {"Content-Type": "application/json"})
