"""Delivery statuses and the one rule that merges them, whatever order and count they come in."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

# A total order: a status replaces only a lower one. Names: gateway-rest-v2.txt, StatusCallback, plus `queued`,
# `blocked` and `deficient` of the OpenAPI file of that page. Meanings and order: Optus, "Mobile Delivery Receipts".
STATUS_RANK: Final = MappingProxyType(
    {
        "accepted": 0,  # the API took it: the 202's own example
        "queued": 10,  # inside the platform; also scheduled ones and those outside the account's sending hours
        "sent": 20,  # left the platform, the carrier has not acknowledged it yet
        "failed": 30,  # not handed to the carrier; the gateway tries again 50 times, so `submitted` may follow
        "submitted": 40,  # the carrier has it; for some numbers the last status ever
        "frozen": 50,  # given up after 50 tries; staff may release it
        "deficient": 60,  # undocumented; believed to be credit or provisioning
        "blocked": 70,  # undocumented; believed to be an opt-out or a block list
        "expired": 80,  # the carrier could not deliver within its validity period
        "rejected": 90,  # refused by the carrier
        "dead": 100,  # ended by an administrator of the platform
        "received": 110,  # on the handset: wins over everything, because only the handset can say it
    }
)

# Nothing better is expected after these, though a late `received` still wins.
FINAL_STATUSES: Final = frozenset({"frozen", "deficient", "blocked", "expired", "rejected", "dead", "received"})
FAILURE_STATUSES: Final = FINAL_STATUSES - {"received"}


def normalised(status: str) -> str:
    """The documented spelling is lower case; clients of the gateway have met upper case too."""
    return status.strip().lower()


def contradicts(seen: Iterable[str]) -> bool:
    """Whether the statuses of one message, in any order, say both that it arrived and that it never will."""
    statuses = set(seen)
    return "received" in statuses and not statuses.isdisjoint(FAILURE_STATUSES)
