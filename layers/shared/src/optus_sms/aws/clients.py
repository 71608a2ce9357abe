"""AWS clients: one lean session per function, with timeouts short enough to leave a POST its time.

The clients are boto3's low-level ones, made by botocore's session without boto3's wrapper: `import boto3` also loads
resources and S3 transfers, 16 ms of CPU at each cold start (docs/decisions/boto3-in-the-layer.md).
"""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.request import getproxies

from botocore.config import Config
from botocore.handlers import BUILTIN_HANDLERS, REGISTER_FIRST, REGISTER_LAST
from botocore.session import Session

from optus_sms.aws.connections import Connections, refuse_cut_short

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

# Parameter validation repeats the type checker and the tests, and boto3 would build a new user agent for each call;
# together they cost a third of a call's CPU. At most three requests: 1 second to connect and 2 to read, each.
_CONNECT_SECONDS, _READ_SECONDS = 1, 2
_CONFIG: Final = Config(
    connect_timeout=_CONNECT_SECONDS,
    read_timeout=_READ_SECONDS,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=64,
    parameter_validation=False,
    user_agent="optus-sms",
)
# The called services, by the names that botocore's events have or had.
_SERVICES: Final = frozenset(
    ("cloudwatch", "dynamodb", "eventbridge", "events", "lambda", "secrets-manager", "secretsmanager", "sqs")
)


@cache
def _session() -> Session:
    logging.getLogger("botocore").setLevel(logging.WARNING)  # otherwise each cold start logs where it found credentials
    session = Session(include_builtin_handlers=False)
    _register_botocores_handlers(session.get_component("event_emitter"))
    if not getproxies():  # only botocore's own HTTP client supports them
        ca_bundle = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        connections = Connections(_CONNECT_SECONDS, _READ_SECONDS, ca_bundle=ca_bundle)
        session.register("before-send", connections.send)  # type: ignore[arg-type] # the stubs want **kwargs only
    else:
        session.register("before-parse", refuse_cut_short)  # type: ignore[arg-type]
    return session


def _register_botocores_handlers(events: Any) -> None:
    """Register botocore's own handlers, but not those of other services: each client copies them all."""
    register = {REGISTER_FIRST: events.register_first, REGISTER_LAST: events.register_last}
    for event, handler, *order in BUILTIN_HANDLERS:
        kind, *service = event.split(".")[:2]
        if kind != "docs" and _SERVICES.issuperset(service):
            register.get(order[0] if order else None, events.register)(event, handler)


def _client(service: str) -> Any:
    return _session().create_client(service, config=_CONFIG)


def cloudwatch() -> CloudWatchClient:
    """Return a client for the metrics of the functions."""
    client: CloudWatchClient = _client("cloudwatch")
    return client


def dynamodb() -> DynamoDBClient:
    """Return a client for the tables."""
    client: DynamoDBClient = _client("dynamodb")
    return client


def lambda_() -> LambdaClient:
    """Return a client for the event source mappings of the queues."""
    client: LambdaClient = _client("lambda")
    return client


def eventbridge() -> EventBridgeClient:
    """Return a client for the event bus."""
    client: EventBridgeClient = _client("events")
    return client


def secrets_manager() -> SecretsManagerClient:
    """Return a client for the two secrets."""
    client: SecretsManagerClient = _client("secretsmanager")
    return client


def sqs() -> SQSClient:
    """Return a client for the queues."""
    client: SQSClient = _client("sqs")
    return client
