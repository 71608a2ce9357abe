"""How far many messages are, by what was seen of them."""

from typing import Any

import pytest

from local.demo.load import Progress, progress_of
from local.demo.watcher import Seen


def seen(states: dict[str, tuple[str, str | None]]) -> Seen:
    """What was seen of messages by key: the ledger's state, the gateway's status."""
    found = Seen()
    for key, (state, status) in states.items():
        found.ledger[key] = {"state": state, "gateway_id": f"g-{key}"}
        if status:
            found.messages[f"g-{key}"] = {"id": f"g-{key}", "direction": "MT", "status": status}
    return found


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        ("SENDING", None, {}),
        ("RETRY", None, {}),
        ("ACCEPTED", "sent", {"decided": 1, "accepted": 1}),
        ("ACCEPTED", "failed", {"decided": 1, "accepted": 1}),
        ("ACCEPTED", "received", {"decided": 1, "accepted": 1, "received": 1, "finished": 1}),
        ("ACCEPTED", "rejected", {"decided": 1, "accepted": 1, "finished": 1}),
        ("UNKNOWN", None, {"decided": 1, "finished": 1}),
        ("REJECTED", None, {"decided": 1, "finished": 1}),
        ("EXPIRED", None, {"decided": 1, "finished": 1}),
    ],
)
def test_each_end_counts_so_that_no_fault_lets_a_load_wait_for_ever(
    state: str, status: str | None, expected: dict[str, Any]
) -> None:
    found = progress_of(["a", "never seen"], 2, seen({"a": (state, status)}), with_handsets=True)
    assert found == Progress(total=2, queued=2, **expected)


def test_without_handsets_accepted_is_the_end() -> None:
    found = progress_of(["a", "b"], 2, seen({"a": ("ACCEPTED", None), "b": ("SENDING", None)}), with_handsets=False)
    assert (found.finished, found.accepted) == (1, 1)
