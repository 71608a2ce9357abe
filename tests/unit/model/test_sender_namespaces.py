"""The namespaces of senders, and the references made for messages in them."""

from __future__ import annotations

from itertools import product

import pytest

from optus_sms.model.sender_namespaces import (
    in_namespace,
    is_made_reference,
    key_of,
    namespace_of,
    namespace_of_sender,
    reference_of,
)

KEYS = ("a", "order-17", "a:b.c_d", "x" * 50)


@pytest.mark.parametrize(
    ("sender_id", "namespace"),
    [
        ("AIDAIENQZJOLO23YVJ4VO", "AIDAIENQZJOLO23YVJ4VO"),
        ("AROAEXAMPLEID:session-1", "AROAEXAMPLEID"),
        ("AROAEXAMPLEID:a:b", "AROAEXAMPLEID"),
        ("123456789012", "123456789012"),
        ("123456789012:Bob", "123456789012"),
        ("203.0.113.7", "unknown"),
        ("2001:db8::7", "unknown"),
        ("a/b", "unknown"),
        ("", "unknown"),
        (":session", "unknown"),
    ],
)
def test_a_namespace_is_the_identity_without_its_session(sender_id: str, namespace: str) -> None:
    assert namespace_of_sender(sender_id) == namespace


def test_a_message_id_is_taken_apart_as_it_was_made() -> None:
    made = {in_namespace(sender, key): (sender, key) for sender, key in product(("", "AIDA1", "AROA2"), KEYS)}
    assert {id_: (namespace_of(id_), key_of(id_)) for id_ in made} == made
    assert len(made) == 3 * len(KEYS)


def test_a_key_without_namespace_is_its_own_reference() -> None:
    assert {reference_of(key) for key in KEYS} == {None}


def test_each_message_in_a_namespace_gets_a_reference_that_the_gateway_takes_and_no_sender_may_give() -> None:
    keys = (*KEYS, "x" * 49 + "y")
    made = [reference_of(in_namespace(sender, key)) for sender, key in product(("AIDA1", "AROA2"), keys)]
    assert len(set(made)) == len(made)
    for reference in made:
        assert reference is not None
        assert len(reference) <= 50
        assert is_made_reference(reference)
    assert str(made[1]).startswith("order-17/")


@pytest.mark.parametrize(
    "reference", ["costs-42", "AIDA1/order-17", "CC/2026", "order-17/0123456789abcdef012", "a" * 20]
)
def test_a_senders_own_reference_is_none_of_those(reference: str) -> None:
    assert not is_made_reference(reference)
