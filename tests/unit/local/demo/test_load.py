"""The progress of many messages, by their records."""

from typing import Any

import pytest

from local.demo.load import Progress, progress_of
from local.demo.watcher import Seen
from optus_sms.records.items import LedgerRecord, MessageRecord, State


def seen(states: dict[str, tuple[State, str | None]]) -> Seen:
    """Return the records of messages by message_id: the ledger's state, the gateway's status."""
    found = Seen()
    for key, (state, status) in states.items():
        found.ledger[key] = LedgerRecord(key, state, gateway_id=f"g-{key}")
        if status:
            found.messages[f"g-{key}"] = MessageRecord(id=f"g-{key}", status=status)
    return found


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        (State.SENDING, None, {}),
        (State.RETRY, None, {}),
        (State.ACCEPTED, "sent", {"decided": 1, "accepted": 1}),
        (State.ACCEPTED, "failed", {"decided": 1, "accepted": 1}),
        (State.ACCEPTED, "received", {"decided": 1, "accepted": 1, "received": 1, "finished": 1}),
        (State.ACCEPTED, "rejected", {"decided": 1, "accepted": 1, "finished": 1}),
        (State.UNKNOWN, None, {"decided": 1, "finished": 1}),
        (State.REJECTED, None, {"decided": 1, "finished": 1}),
        (State.EXPIRED, None, {"decided": 1, "finished": 1}),
    ],
)
def test_each_end_counts_so_that_no_fault_lets_a_load_wait_for_ever(
    state: State, status: str | None, expected: dict[str, Any]
) -> None:
    found = progress_of(["a", "never seen"], 2, seen({"a": (state, status)}), with_handsets=True)
    assert found == Progress(total=2, queued=2, **expected)


def test_without_handsets_accepted_is_the_end() -> None:
    found = progress_of(
        ["a", "b"], 2, seen({"a": (State.ACCEPTED, None), "b": (State.SENDING, None)}), with_handsets=False
    )
    assert (found.finished, found.accepted) == (1, 1)
