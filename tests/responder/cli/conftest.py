"""A command line connected to the real routes."""

from __future__ import annotations

from tests.responder.web.conftest import guarded_responder, make_responder, responder

__all__ = ["guarded_responder", "make_responder", "responder"]
