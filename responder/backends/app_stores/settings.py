"""Configuration of app stores."""

from __future__ import annotations

from pydantic import Field

from foundation.models import StrictModel
from responder.backends.app_stores.app_store_client import AppStoreSettings
from responder.backends.app_stores.google_play_client import GooglePlaySettings


class StoreSettings(StrictModel):
    """Stores that apps are released in."""

    google_play: GooglePlaySettings | None = Field(default=None, description="Access to Google Play")
    app_store: AppStoreSettings | None = Field(default=None, description="Access to App Store Connect")
