"""A callback is matched only with the message that has its gateway ID, or none."""

from __future__ import annotations

import pytest

from optus_sms.flows.resolving import resolve_by_reference
from tests.support.builders import NOW, wanted
from tests.support.fakes import MemoryLedger, MemoryMessages


@pytest.mark.parametrize("other", ["gw-1", "gw-3"])
def test_a_callback_of_another_sms_with_the_reference_names_no_message(other: str) -> None:
    ledger, messages = MemoryLedger(), MemoryMessages()
    claim = ledger.claim(wanted(), now=NOW)
    ledger.accepted(claim, "gw-2", now=NOW)
    assert resolve_by_reference(ledger, messages, other, "message-1", now=NOW) is None
    assert messages.items == {}
