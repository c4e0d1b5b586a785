"""Settings of the signed documents for apps."""

from __future__ import annotations

from pydantic import Field, PrivateAttr, model_validator

from foundation.models import StrictModel
from foundation.secrets import SecretFile, read_secret_bytes
from responder.transport.signing import Signer


class ClientSettings(StrictModel):
    """The signed documents that apps poll: minimum and blocked versions, and kill switches."""

    signing_key_file: SecretFile = Field(
        description="Private key for the signatures (openssl genpkey -algorithm ed25519)"
    )
    public: bool = Field(
        default=False, description="Whether documents are public; otherwise they need a token with scope read"
    )
    _signer: Signer = PrivateAttr()

    @model_validator(mode="after")
    def _read(self) -> ClientSettings:
        pem = read_secret_bytes(self.signing_key_file, "signing_key_file")
        try:
            self._signer = Signer(pem)
        except ValueError as e:
            raise ValueError(f"signing_key_file: {self.signing_key_file} {e}") from None
        return self

    @property
    def signer(self) -> Signer:
        return self._signer
