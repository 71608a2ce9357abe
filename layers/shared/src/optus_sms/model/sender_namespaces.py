"""A namespace for the keys of each sender (docs/decisions/separate-senders.md).

With `SeparateSenders` the ledger's `message_id` consists of the sender's ID and its key: `AROAEXAMPLEID/order-17`. In
SQS's `SenderId` the part before a colon is the ID of an IAM user or role, or of an account; after the colon comes the
session of a role. SNS has one ID for all topics, and EventBridge one for all rules.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final

_SEPARATOR: Final = "/"  # no key has it
_SENDER = re.compile(r"[A-Za-z0-9]{5,128}")  # longer than the first group of an IPv6 address
_UNKNOWN: Final = "unknown"  # an anonymous sender's ID is an IP address
_KEY_CHARACTERS: Final = 29
_HASH_CHARACTERS: Final = 20
_MADE = re.compile(rf"[A-Za-z0-9._:-]{{1,{_KEY_CHARACTERS}}}{_SEPARATOR}[0-9a-f]{{{_HASH_CHARACTERS}}}")


def namespace_of_sender(sender_id: str) -> str:
    """Return the namespace of an SQS `SenderId`. A role's sessions share one, and so do all senders without an ID."""
    sender = sender_id.partition(":")[0]
    return sender if _SENDER.fullmatch(sender) else _UNKNOWN


def in_namespace(namespace: str, key: str) -> str:
    """Return the `message_id` of a sender's key; the key itself without a namespace."""
    return f"{namespace}{_SEPARATOR}{key}" if namespace else key


def namespace_of(message_id: str) -> str:
    """Return the namespace of a `message_id`; empty if it has none."""
    return message_id.rpartition(_SEPARATOR)[0]


def key_of(message_id: str) -> str:
    """Return the sender's own key of a `message_id`."""
    return message_id.rpartition(_SEPARATOR)[2]


def redriven_id(attributes: Mapping[str, str | None]) -> str | None:
    """Return the `message_id` of a redriven dead letter; None for any other message.

    A dead letter and its redriven copy have it as an attribute, beside the time when the message was queued first.
    """
    return attributes.get("message_id") if "queued_at" in attributes else None


def reference_of(message_id: str) -> str | None:
    """Return the reference that a message without one gets; None for a `message_id` that is the reference itself.

    It has the beginning of the key, for people to recognize, and a hash of the whole, within the gateway's 50
    characters.
    """
    if not namespace_of(message_id):
        return None
    digest = hashlib.sha256(message_id.encode()).hexdigest()
    return f"{key_of(message_id)[:_KEY_CHARACTERS]}{_SEPARATOR}{digest[:_HASH_CHARACTERS]}"


def is_made_reference(reference: str) -> bool:
    """Return whether a reference has the form of `reference_of`, so that it can be another message's."""
    return _MADE.fullmatch(reference) is not None
