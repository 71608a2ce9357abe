"""The allowed action for a dead letter, by the dead letter and the ledger: every combination."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from cli.dead_letter_queue import ReceivedDeadLetter, read_dead_letter
from cli.redrive_plan import DeadLetterKind, judge
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.records.items import LedgerRecord, State
from tests.support.builders import NOW, message_body

EXPIRED = "2025-12-31T00:00:00Z"
SENDABLE = (DeadLetterKind.SAFE, DeadLetterKind.REJECTED)


def letter(reason: str = "", body: str | None = None, **attributes: str) -> ReceivedDeadLetter:
    """Return a dead letter as read from the queue; without a reason, SQS itself moved it."""
    given = attributes | ({"reason": reason} if reason else {})
    raw: dict[str, Any] = {
        "MessageId": "sqs-id",
        "Body": body or message_body(message_id="k"),
        "MessageAttributes": {name: {"StringValue": value} for name, value in given.items()},
        "Attributes": {"SentTimestamp": str(int(NOW * 1000))},
    }
    return read_dead_letter(raw, now=NOW)


@pytest.mark.parametrize(
    ("state", "outcomes", "lease", "reason", "of"),
    list(
        product(
            State,
            ((0, 0), (1, 0), (1, 1), (2, 1), (2, 2)),
            (-1, 1),
            ("attempts_exhausted", "rejected"),
            ("", *DeadLetterReason),
        )
    ),
)
def test_only_what_is_certainly_unsent_may_be_sent(
    state: State, outcomes: tuple[int, int], lease: int, reason: str, of: str
) -> None:
    """``outcomes``: the number of unknown ones, and of those that an operator resolved as not sent."""
    unknown, resolved = outcomes
    record = LedgerRecord(
        "k",
        state,
        unknown_outcomes=unknown,
        resolved_outcomes=resolved,
        lease_until=int(NOW) + lease,
        reason=reason,
    )
    certain = state in (State.RETRY, State.REJECTED) and unknown == resolved
    expected = certain and of != DeadLetterReason.UNREADABLE_CALLBACK
    assert (judge(letter(of), record, now=NOW)[0] in SENDABLE) == expected


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (LedgerRecord("k", State.ACCEPTED), DeadLetterKind.SENT),
        (LedgerRecord("k", State.UNKNOWN), DeadLetterKind.UNKNOWN),
        (LedgerRecord("k", State.SENDING, lease_until=int(NOW) + 1), DeadLetterKind.BUSY),
        (LedgerRecord("k", State.SENDING, lease_until=int(NOW) - 1), DeadLetterKind.UNKNOWN),
        (LedgerRecord("k", State.REJECTED, unknown_outcomes=1, reason="attempts_exhausted"), DeadLetterKind.UNKNOWN),
        (LedgerRecord("k", State.EXPIRED, unknown_outcomes=1), DeadLetterKind.UNKNOWN),
        (LedgerRecord("k", State.EXPIRED), DeadLetterKind.EXPIRED),
        (LedgerRecord("k", State.RECALLED), DeadLetterKind.RECALLED),
        (LedgerRecord("k", State.RECALLED, unknown_outcomes=1), DeadLetterKind.RECALLED),
        (LedgerRecord("k", State.REJECTED, reason="rejected"), DeadLetterKind.REJECTED),
        (LedgerRecord("k", State.REJECTED, reason="attempts_exhausted"), DeadLetterKind.SAFE),
        (LedgerRecord("k", State.RETRY), DeadLetterKind.SAFE),
        (LedgerRecord("k", State.RETRY, payload_sha256="of other fields"), DeadLetterKind.CONFLICT),
        (LedgerRecord("k", State.REJECTED, payload_sha256="of other fields"), DeadLetterKind.CONFLICT),
        (LedgerRecord("k", State.ACCEPTED, payload_sha256="of other fields"), DeadLetterKind.CONFLICT),
    ],
)
def test_the_ledger_says_what_a_letter_is(record: LedgerRecord, kind: DeadLetterKind) -> None:
    assert judge(letter("attempts_exhausted"), record, now=NOW)[0] is kind


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("", DeadLetterKind.SAFE),
        ("invalid", DeadLetterKind.REJECTED),
        ("conflict", DeadLetterKind.CONFLICT),
        ("unreadable_callback", DeadLetterKind.CALLBACK),
        ("rejected", DeadLetterKind.UNKNOWN),
        ("unknown_outcome", DeadLetterKind.UNKNOWN),
        ("attempts_exhausted", DeadLetterKind.UNKNOWN),
    ],
)
def test_of_what_the_ledger_does_not_know_the_reason_says_it(reason: str, kind: DeadLetterKind) -> None:
    assert judge(letter(reason), None, now=NOW)[0] is kind


@pytest.mark.parametrize(
    "record", [None, LedgerRecord("k", State.RETRY), LedgerRecord("k", State.REJECTED, reason="rejected")]
)
def test_what_has_expired_meanwhile_is_not_sent(record: LedgerRecord | None) -> None:
    body = message_body(message_id="k", expires_at=EXPIRED)
    assert judge(letter(body=body), record, now=NOW)[0] is DeadLetterKind.EXPIRED


@pytest.mark.parametrize(
    "found",
    [
        letter("invalid", body="not JSON"),
        letter("invalid", body=message_body(destination="0491570006")),
        letter(body=message_body(message_id=None), message_id="no key: +61491570006"),
        letter("rejected", body_encoding="base64"),
    ],
    ids=["not JSON", "a rule", "a key that is none", "a body that was encoded"],
)
def test_what_is_no_message_is_malformed_and_says_why(found: ReceivedDeadLetter) -> None:
    kind, why = judge(found, None, now=NOW)
    assert (kind, bool(why)) == (DeadLetterKind.MALFORMED, True)


def test_the_key_is_the_messages_own_else_the_attribute_else_the_sqs_id() -> None:
    assert letter(message_id="k").message_id == "k"
    assert letter(message_id="from-attribute").message is None, "they disagree"
    nameless = message_body(message_id=None)
    assert letter(body=nameless, message_id="from-attribute").message_id == "from-attribute"
    assert letter(body=nameless).message_id == "sqs-id"
