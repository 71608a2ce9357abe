"""The item that keeps the gateway's description of its API, in DynamoDB."""

from __future__ import annotations

import boto3
from moto import mock_aws

from optus_sms.aws import clients
from optus_sms.records.contract import ContractRecords
from optus_sms.records.items import CONTRACT_KEY
from tests.support.aws import REGION, create_table
from tests.support.builders import NOW

LARGEST = "é" * (32 * 1024)  # the most that the transport reads


def test_what_was_put_last_is_got_and_never_expires() -> None:
    with mock_aws():
        client = boto3.client("dynamodb", region_name=REGION, config=clients._CONFIG)
        table = create_table(client, "SendLedgerTable")
        records = ContractRecords.connect(client, table)
        assert records.get() is None
        records.put("openapi: 3.0.3", now=NOW)
        assert records.get() == "openapi: 3.0.3"
        records.put(LARGEST, now=NOW + 86_400)
        assert records.get() == LARGEST
        item = client.get_item(TableName=table, Key={"pk": {"S": CONTRACT_KEY}})["Item"]
        assert item["seen_at"] == {"S": "2026-01-02T00:00:00.000Z"}
        assert "ttl" not in item
