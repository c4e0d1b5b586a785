"""People are told what goes on: at least once, in order, and never at the expense of a rollback."""

from responder.notify.audience import Notify
from responder.notify.channel import Channel, ChannelSettings, NotDelivered
from responder.notify.story import Story
from responder.notify.teller import Teller

__all__ = ["Channel", "ChannelSettings", "NotDelivered", "Notify", "Story", "Teller"]
