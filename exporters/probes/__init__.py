"""Check types. Each is one file here and one line in PROBES. May import `exporters.clients` and `foundation`."""

from __future__ import annotations

from typing import Annotated

from exporters.probes.check import Check
from foundation.registry import Registry

PROBES: Registry[Check] = Registry(
    "check",
    group="rollback_responder.probes",
    tag="type",
    builtin={
        "http_response": "exporters.probes.http_response:HttpResponse",
        "database_connection": "exporters.probes.database_connection:DatabaseConnection",
        "tcp": "exporters.probes.tcp:Tcp",
        "custom": "exporters.probes.custom:Custom",
    },
)
"""Check types by the value of `type`. Other distributions add theirs as entry points."""

AnyCheck = Annotated[Check, PROBES]
