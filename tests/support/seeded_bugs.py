"""Bugs for the tests to find: the real code with one line of the protocol changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from optus_sms.flows import refused_claim
from optus_sms.flows import send_message as sending
from optus_sms.flows.refused_claim import NextStep
from optus_sms.records import ledger
from optus_sms.records.items import LedgerRecord
from optus_sms.records.ledger import Ledger
from optus_sms.records.table import Refused
from optus_sms.records.updates import Condition, equals, exists

Patch = Callable[[pytest.MonkeyPatch], None]
ALWAYS = ledger.IS_NEW | exists("pk")


def constant(owner: Any, name: str, value: object) -> Patch:
    """Give a constant or function of the protocol another value."""
    return lambda monkeypatch: monkeypatch.setattr(owner, name, value)


def mistaken(to: NextStep, instead_of: NextStep) -> Patch:
    """Remove the line for one case from `next_step`."""
    decide = refused_claim.next_step

    def patched(*args: Any, **kwargs: Any) -> NextStep:
        step = decide(*args, **kwargs)
        return to if step is instead_of else step

    return constant(sending, "next_step", patched)


def without_condition(name: str, otherwise: Callable[[LedgerRecord], Condition] = lambda _: ALWAYS) -> Patch:
    """Weaken a named condition of the ledger."""
    return constant(ledger, name, otherwise)


def same_state(record: LedgerRecord) -> Condition:
    """Remove owner and attempt from `is_still`."""
    return equals(state=record.state)


def own_claim_not_recognized(kind: type[Ledger]) -> Patch:
    """Let a claim that the SDK repeated refuse itself."""
    claim = kind.claim

    def patched(self: Ledger, wanted: LedgerRecord, **more: Any) -> LedgerRecord:
        table, refused = self._table, False
        update = table.update

        def watched(*args: Any, **kwargs: Any) -> Any:
            nonlocal refused
            written = update(*args, **kwargs)
            refused = isinstance(written, Refused)
            return written

        table.update = watched  # type: ignore[method-assign]
        try:
            record = claim(self, wanted, **more)
        finally:
            table.update = update  # type: ignore[method-assign]
        return record._replace(owner="another") if refused and record.owner == wanted.owner else record

    return constant(kind, "claim", patched)
