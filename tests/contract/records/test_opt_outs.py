"""Every rule of `records.opt_outs.OptOuts`, in memory and in DynamoDB."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from optus_sms.records.items import OptOutRecord
from optus_sms.records.opt_outs import OptOuts
from optus_sms.records.table import Table
from optus_sms.records.updates import NOTHING
from tests.support.aws import create_table
from tests.support.builders import HANDSET
from tests.support.memory_table import MemoryTable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

OUT = OptOutRecord(HANDSET, True, "2026-01-01T00:00:00.000Z", "reply", reply_id="mo-1")
IN = OptOutRecord(HANDSET, False, "2026-01-01T00:01:00.000Z", "reply", reply_id="mo-2")
BY_PERSON = OptOutRecord(HANDSET, True, "2026-01-01T00:02:00.000Z", "person", operator="operator-1")


@pytest.fixture
def table(client: DynamoDBClient | None) -> Table:
    if client is None:
        return MemoryTable(key="handset")
    return Table(client, create_table(client, "OptOutTable"), key="handset")


def test_a_decision_is_kept_whole(table: Table) -> None:
    opt_outs = OptOuts(table)
    assert opt_outs.read(HANDSET) is None
    assert opt_outs.decide(OUT) is None
    assert opt_outs.read(HANDSET) == OUT
    assert list(opt_outs.scan()) == [OUT]


def test_a_later_decision_replaces_all_of_an_earlier_one(table: Table) -> None:
    opt_outs = OptOuts(table)
    for decision in (OUT, IN, BY_PERSON):
        assert opt_outs.decide(decision) is None
    assert opt_outs.read(HANDSET) == BY_PERSON


def test_an_earlier_decision_changes_nothing(table: Table) -> None:
    opt_outs = OptOuts(table)
    opt_outs.decide(IN)
    assert opt_outs.decide(OUT) == IN
    assert opt_outs.read(HANDSET) == IN


def test_a_repeated_write_is_the_same_write(table: Table) -> None:
    opt_outs = OptOuts(table)
    assert [opt_outs.decide(OUT) for _ in range(2)] == [None, None]


def test_of_one_moment_the_opt_out_stays(table: Table) -> None:
    opt_outs = OptOuts(table)
    at_once = OptOutRecord(HANDSET, False, OUT.since, "reply", reply_id="mo-2")
    opt_outs.decide(OUT)
    assert opt_outs.decide(at_once) == OUT


def test_any_order_with_repeats_gives_the_same_item(table: Table) -> None:
    same_time = OptOutRecord(HANDSET, True, IN.since, "reply", reply_id="mo-3")
    decisions = (OUT, IN, BY_PERSON, same_time)
    opt_outs = OptOuts(table)
    handsets = [f"+6149157{number:04}" for number in range(24)]
    for handset, order in zip(handsets, itertools.permutations(decisions), strict=True):
        for decision in (*order, order[0], order[1]):
            opt_outs.decide(decision._replace(handset=handset))
    assert [opt_outs.read(handset) for handset in handsets] == [BY_PERSON._replace(handset=h) for h in handsets]


def test_only_a_handset_that_is_not_known_is_imported(table: Table) -> None:
    opt_outs = OptOuts(table)
    imported = OptOutRecord(HANDSET, True, "2030-01-01T00:00:00.000Z", "import", operator="operator-1")
    opt_outs.decide(IN)
    assert opt_outs.decide(imported, only_if_new=True) == IN
    assert opt_outs.read(HANDSET) == IN


def test_a_handset_that_is_not_known_is_imported(table: Table) -> None:
    opt_outs = OptOuts(table)
    imported = OptOutRecord(HANDSET, True, "2020-01-01T00:00:00.000Z", "import", operator="operator-1")
    assert opt_outs.decide(imported, only_if_new=True) is None
    assert opt_outs.decide(imported, only_if_new=True) is None  # as if the SDK repeated it
    assert opt_outs.read(HANDSET) == imported


def test_an_item_made_by_hand_is_an_opt_out_until_the_next_decision(table: Table) -> None:
    opt_outs = OptOuts(table)
    table.update(HANDSET, NOTHING.set(note="rang us", opted_out="yes"))
    found = opt_outs.read(HANDSET)
    assert found is not None
    assert found.opted_out
    assert opt_outs.decide(IN) is None
    assert opt_outs.read(HANDSET) == IN
