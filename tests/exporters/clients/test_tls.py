from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from exporters.clients.tls import Tls, context, not_after


@pytest.mark.parametrize("days", [1, 30, 9000, 15000])
def test_the_expiry_equals_that_of_the_standard_library(
    days: int, certificates: Callable[..., tuple[Path, Path]]
) -> None:
    path, _ = certificates(f"days-{days}", days=days)
    trusted = ssl.create_default_context(cafile=str(path)).get_ca_certs()[0]
    der = base64.b64decode("".join(path.read_text().split("-----")[2].split()))
    assert not_after(der) == ssl.cert_time_to_seconds(str(trusted["notAfter"]))


def test_certificates_are_verified_by_default() -> None:
    assert context(Tls()).verify_mode is ssl.CERT_REQUIRED
    assert context(Tls(insecure_skip_verify=True)).verify_mode is ssl.CERT_NONE
