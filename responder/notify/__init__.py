"""People are told what goes on: at least once, in order, and never at the expense of a rollback."""

from responder.notify.channel import Channel, ChannelSettings, NotDelivered
from responder.notify.dispatcher import Dispatcher
from responder.notify.notification import Notification
from responder.notify.routing import Notify

__all__ = ["Channel", "ChannelSettings", "Dispatcher", "NotDelivered", "Notification", "Notify"]
