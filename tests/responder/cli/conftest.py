"""A command line that talks to the real routes."""

from __future__ import annotations

from tests.responder.web.conftest import guarded_house, house, make_house

__all__ = ["guarded_house", "house", "make_house"]
