"""The notification channels: one file and one line each. Other distributions add entry points of the same group."""

from foundation.registry import Registry
from responder.notify.channel import ChannelSettings

CHANNELS: Registry[ChannelSettings] = Registry(
    "channel",
    group="rollback_responder.channels",
    builtin={
        "slack": "responder.notify.channels.slack:SlackSettings",
        "email": "responder.notify.channels.email:EmailSettings",
        "webhook": "responder.notify.channels.webhook:WebhookSettings",
        "github": "responder.notify.channels.github:GithubSettings",
        "grafana": "responder.notify.channels.grafana:GrafanaSettings",
        "console": "responder.notify.channels.console:ConsoleSettings",
    },
)
