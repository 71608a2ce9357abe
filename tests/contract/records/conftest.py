"""Each rule of the records holds for a table in memory and for one in DynamoDB alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws

from optus_sms.aws import clients
from tests.support.aws import REGION

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[DynamoDBClient]:
    """DynamoDB as moto has it, with the functions' own configuration."""
    with mock_aws():
        yield boto3.client("dynamodb", region_name=REGION, config=clients._CONFIG)


@pytest.fixture(params=["memory", "dynamodb"])
def client(request: pytest.FixtureRequest) -> DynamoDBClient | None:
    """DynamoDB; None for a table in memory."""
    return None if request.param == "memory" else request.getfixturevalue("dynamodb")
