"""The two lanes of messages: each has a queue, a pace and a pause of its own."""

from enum import StrEnum


class Lane(StrEnum):
    """The queue that a message came from. The ledger is shared, so a `message_id` on both queues is one message."""

    ORDINARY = "ordinary"
    URGENT = "urgent"
