"""AWS clients: one lean session per function, with timeouts short enough to leave a POST its time."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

# Parameter validation repeats what the type checker and the tests have checked, and boto3 would build a new user agent
# for each call: together a third of a call's CPU. Three requests at most, of 1 + 2 seconds each.
_CONFIG: Final = Config(
    connect_timeout=1,
    read_timeout=2,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=32,
    parameter_validation=False,
    user_agent="optus-sms",
)


@cache
def _session() -> boto3.Session:
    logging.getLogger("botocore").setLevel(logging.WARNING)  # otherwise each cold start logs where it found credentials
    return boto3.Session()


def cloudwatch() -> CloudWatchClient:
    """Return a client for the metrics of the functions."""
    return _session().client("cloudwatch", config=_CONFIG)


def dynamodb() -> DynamoDBClient:
    """Return a client for the two tables."""
    return _session().client("dynamodb", config=_CONFIG)


def lambda_() -> LambdaClient:
    """Return a client for the queue's event source mapping."""
    return _session().client("lambda", config=_CONFIG)


def eventbridge() -> EventBridgeClient:
    """Return a client for the event bus."""
    return _session().client("events", config=_CONFIG)


def secrets_manager() -> SecretsManagerClient:
    """Return a client for the two secrets."""
    return _session().client("secretsmanager", config=_CONFIG)


def sqs() -> SQSClient:
    """Return a client for the two queues."""
    return _session().client("sqs", config=_CONFIG)
