"""Amazon's CloudFront, KeyValueStore and S3, Cloudflare and Fastly, as far as a rollback speaks with them.

They keep what those document and what a stand-in easily leaves out: who may ask, ETags that must match, what happens to
the same request twice, quotas, and edges that follow late. Each is one function from request to answer, so that tests
reach it over a socket, and the many drills without one.
"""

from __future__ import annotations

from tests.cdns.amazon import Amazon
from tests.cdns.others import FakeCloudflare, FakeFastly

__all__ = ["Amazon", "FakeCloudflare", "FakeFastly"]
