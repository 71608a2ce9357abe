"""What may be done with a dead letter, decided by the letter and the ledger: every combination."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from cli.dead_letters import Kind, Letter, judge, read_letter
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.records.ledger import Record, State
from tests.support.builders import NOW, message_body

EXPIRED = "2025-12-31T00:00:00Z"
SENDABLE = (Kind.SAFE, Kind.REJECTED)


def letter(reason: str = "", body: str | None = None, **attributes: str) -> Letter:
    """As it is read from the queue; without a reason SQS itself has moved it there."""
    given = attributes | ({"reason": reason} if reason else {})
    raw: dict[str, Any] = {
        "MessageId": "sqs-id",
        "Body": body or message_body(message_id="k"),
        "MessageAttributes": {name: {"StringValue": value} for name, value in given.items()},
        "Attributes": {"SentTimestamp": str(int(NOW * 1000))},
    }
    return read_letter(raw, now=NOW)


@pytest.mark.parametrize(
    ("state", "unknown_outcomes", "lease", "reason", "of"),
    list(product(State, (0, 1), (-1, 1), ("attempts_exhausted", "rejected"), ("", *DeadLetterReason))),
)
def test_only_what_is_certainly_unsent_may_be_sent(
    state: State, unknown_outcomes: int, lease: int, reason: str, of: str
) -> None:
    record = Record("k", state, unknown_outcomes=unknown_outcomes, lease_until=int(NOW) + lease, reason=reason)
    # RETRY: every try is known, or a person has settled those that were not.
    certain = state is State.RETRY or (state is State.REJECTED and not unknown_outcomes)
    expected = certain and of != DeadLetterReason.UNREADABLE_CALLBACK
    assert (judge(letter(of), record, now=NOW)[0] in SENDABLE) == expected


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (Record("k", State.ACCEPTED), Kind.SENT),
        (Record("k", State.UNKNOWN), Kind.UNKNOWN),
        (Record("k", State.SENDING, lease_until=int(NOW) + 1), Kind.BUSY),
        (Record("k", State.SENDING, lease_until=int(NOW) - 1), Kind.UNKNOWN),
        (Record("k", State.REJECTED, unknown_outcomes=1, reason="attempts_exhausted"), Kind.UNKNOWN),
        (Record("k", State.EXPIRED, unknown_outcomes=1), Kind.UNKNOWN),
        (Record("k", State.EXPIRED), Kind.EXPIRED),
        (Record("k", State.REJECTED, reason="rejected"), Kind.REJECTED),
        (Record("k", State.REJECTED, reason="attempts_exhausted"), Kind.SAFE),
        (Record("k", State.RETRY), Kind.SAFE),
        (Record("k", State.RETRY, payload_sha256="of other fields"), Kind.CONFLICT),
        (Record("k", State.ACCEPTED, payload_sha256="of other fields"), Kind.CONFLICT),
    ],
)
def test_the_ledger_says_what_a_letter_is(record: Record, kind: Kind) -> None:
    assert judge(letter("attempts_exhausted"), record, now=NOW)[0] is kind


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("", Kind.SAFE),
        ("invalid", Kind.REJECTED),
        ("conflict", Kind.CONFLICT),
        ("unreadable_callback", Kind.CALLBACK),
        ("rejected", Kind.UNKNOWN),
        ("unknown_outcome", Kind.UNKNOWN),
        ("attempts_exhausted", Kind.UNKNOWN),
    ],
)
def test_of_what_the_ledger_does_not_know_the_reason_says_it(reason: str, kind: Kind) -> None:
    assert judge(letter(reason), None, now=NOW)[0] is kind


@pytest.mark.parametrize("record", [None, Record("k", State.RETRY), Record("k", State.REJECTED, reason="rejected")])
def test_what_has_expired_meanwhile_is_not_sent(record: Record | None) -> None:
    body = message_body(message_id="k", expires_at=EXPIRED)
    assert judge(letter(body=body), record, now=NOW)[0] is Kind.EXPIRED


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
def test_what_is_no_message_is_malformed_and_says_why(found: Letter) -> None:
    kind, why = judge(found, None, now=NOW)
    assert (kind, bool(why)) == (Kind.MALFORMED, True)


def test_the_key_is_the_messages_own_else_the_attribute_else_the_sqs_id() -> None:
    assert letter(message_id="from-attribute").key == "k"
    nameless = message_body(message_id=None)
    assert letter(body=nameless, message_id="from-attribute").key == "from-attribute"
    assert letter(body=nameless).key == "sqs-id"
