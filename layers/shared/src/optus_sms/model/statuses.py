"""Delivery statuses, and the rank by which they are merged in any order and number."""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

# A total order: a status replaces only a lower one. Names: gateway-rest-v2.txt, StatusCallback, plus `queued`,
# `blocked` and `deficient` of the OpenAPI file of that page. Meanings and order: Optus, "Mobile Delivery Receipts".
STATUS_RANK: Final = MappingProxyType(
    {
        "accepted": 0,  # accepted by the API: the example of the HTTP 202
        "queued": 10,  # inside the platform; also a scheduled message, or one outside the account's sending hours
        "sent": 20,  # left the platform, the carrier has not acknowledged it yet
        "failed": 30,  # not handed to the carrier; the gateway tries again 50 times, so `submitted` may follow
        "submitted": 40,  # the carrier has it; for some numbers the last status ever
        "frozen": 50,  # given up after 50 tries; the gateway's staff can release it
        "deficient": 60,  # undocumented; believed to be credit or provisioning
        "blocked": 70,  # undocumented; believed to be an opt-out or a block list
        "expired": 80,  # the carrier could not deliver within its validity period
        "rejected": 90,  # rejected by the carrier
        "dead": 100,  # ended by an administrator of the platform
        "received": 110,  # on the handset: replaces every other status, because only the handset confirms it
    }
)

# No other status is expected after these, but a late `received` still replaces them.
FINAL_STATUSES: Final = frozenset({"frozen", "deficient", "blocked", "expired", "rejected", "dead", "received"})
FAILURE_STATUSES: Final = FINAL_STATUSES - {"received"}


def normalized(status: str) -> str:
    """Return a status in lower case, as documented; other clients of the gateway report upper case too."""
    return status.strip().lower()


def contradicts(seen: Iterable[str]) -> bool:
    """Return whether the statuses of one message, in any order, include both `received` and a failure."""
    statuses = set(seen)
    return "received" in statuses and not statuses.isdisjoint(FAILURE_STATUSES)
