"""Delivers notifications at least once and in order, without delaying a rollback.

May import decisions, services, journal, rollback, transport and config.
"""

from responder.notify.channel import Channel, ChannelSettings, NotDelivered
from responder.notify.dispatcher import Dispatcher
from responder.notify.notification import Notification
from responder.notify.routing import Notify

__all__ = ["Channel", "ChannelSettings", "Dispatcher", "NotDelivered", "Notification", "Notify"]
