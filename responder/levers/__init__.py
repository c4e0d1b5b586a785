"""The table of everything that can be read and set. Adding a backend adds a file here and a line below."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from responder.levers.release import CurrentRelease, PointerFile

__all__ = ["AnyLever", "CurrentRelease", "PointerFile"]

AnyLever = Annotated[CurrentRelease | PointerFile, Field(discriminator="lever")]
"""Every lever, told apart by `lever`; decoding this union is the validation of a plan."""
