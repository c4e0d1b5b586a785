"""The table of check types: a new one is a file beside this and a line in the union."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from exporters.probes.custom import Custom
from exporters.probes.database_connection import DatabaseConnection
from exporters.probes.http_response import HttpResponse
from exporters.probes.tcp import Tcp

AnyCheck = Annotated[HttpResponse | DatabaseConnection | Tcp | Custom, Field(discriminator="type")]
TYPES = {"http_response": HttpResponse, "database_connection": DatabaseConnection, "tcp": Tcp, "custom": Custom}
