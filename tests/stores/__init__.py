"""Stand-ins for Google Play and App Store Connect, as far as rollbacks use them.

They keep what those document and what a stand-in easily leaves out: signatures that are checked, edits that another
commit ends, lists that must be whole, states that cannot be reached from each other, quotas, and reads that come late.
"""

from __future__ import annotations

from tests.stores.app_store import FakeAppStore
from tests.stores.google_play import FakePlay

__all__ = ["FakeAppStore", "FakePlay"]
