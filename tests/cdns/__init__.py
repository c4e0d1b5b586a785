"""Stand-ins for CloudFront, KeyValueStore and S3 of Amazon, Cloudflare and Fastly, as far as rollbacks use them.

They follow the documentation and implement authentication, ETag conditions, repeated requests, quotas, and the delay of
edges. Each is one function from request to answer, so that tests use it over a socket, and the many drills without one.
"""

from __future__ import annotations

from tests.cdns.amazon import Amazon
from tests.cdns.others import FakeCloudflare, FakeFastly

__all__ = ["Amazon", "FakeCloudflare", "FakeFastly"]
