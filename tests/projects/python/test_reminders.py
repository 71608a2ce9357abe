"""The tests of that system: the customer got the text."""

import time
from typing import Any

import pytest
from reminders import remind

HANDSET = "+61491570006"


@pytest.fixture(autouse=True)
def _local_stack(optus_sms_stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in optus_sms_stack.environment.items():
        monkeypatch.setenv(name, value)


def test_the_customer_gets_one_text(optus_sms_stack: Any) -> None:
    remind(4711, HANDSET)
    remind(4711, HANDSET)  # as after an error
    (message,) = optus_sms_stack.received(HANDSET, reference="reminder-4711")
    assert message["content"] == "Your appointment 4711 is tomorrow."


def test_what_the_customer_replies_is_in_the_table(optus_sms_stack: Any) -> None:
    remind(4712, HANDSET)
    assert optus_sms_stack.received(HANDSET, reference="reminder-4712")
    reply = optus_sms_stack.reply(HANDSET, "I can't come")
    table, end = optus_sms_stack.environment["MESSAGES_TABLE_NAME"], time.monotonic() + 30
    dynamodb = optus_sms_stack.client("dynamodb")
    while "Item" not in (found := dynamodb.get_item(TableName=table, Key={"id": {"S": reply}})):
        assert time.monotonic() < end, "the reply is not in the table"
        time.sleep(0.1)
    assert found["Item"]["content"]["S"] == "I can't come"


def test_nobody_else_gets_a_text(optus_sms_stack: Any) -> None:
    assert optus_sms_stack.received("+61491570157", wait=0) == []
    assert optus_sms_stack.event_bus_name
