"""A callback is matched only with the message that has its gateway ID, or none."""

from __future__ import annotations

import pytest

from optus_sms.flows.resolving import Resolution, resolve_by_reference
from optus_sms.records.items import State
from tests.support.builders import NOW, wanted
from tests.support.fakes import MemoryLedger, MemoryMessages


@pytest.mark.parametrize("other", ["gw-1", "gw-3"])
def test_a_callback_of_another_sms_with_the_reference_names_no_message(other: str) -> None:
    ledger, messages = MemoryLedger(), MemoryMessages()
    claim = ledger.claim(wanted(), now=NOW)
    ledger.accepted(claim, "gw-2", now=NOW)
    assert resolve_by_reference(ledger, messages, other, "message-1", now=NOW) is None
    assert messages.items == {}


def test_a_match_is_no_contradiction_and_a_contradiction_takes_no_id() -> None:
    ledger, messages = MemoryLedger(), MemoryMessages()
    claim = ledger.claim(wanted(reference="ref-1"), now=NOW)
    ledger.register_reference("ref-1", "message-1", ttl=int(NOW) + 60)
    match = resolve_by_reference(ledger, messages, "gw-1", "ref-1", now=NOW)
    assert match == Resolution("message-1", State.SENDING, is_contradiction=False, id_is_taken=False)
    ledger.accepted(claim, "gw-1", now=NOW)
    other = ledger.claim(wanted("message-2"), now=NOW)
    ledger.not_sent(other, "throttled", counts=True, now=NOW)
    contradiction = resolve_by_reference(ledger, messages, "gw-2", "message-2", now=NOW)
    assert contradiction == Resolution("message-2", None, is_contradiction=True, id_is_taken=False)
