"""AWS in tests: fake credentials, and tables in moto as the real template describes them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from local.template import Template, read_template, translate
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

REGION: Final = "ap-southeast-2"
FAKE_AWS_ENVIRONMENT: Final = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
_number = itertools.count(1)


@cache
def template_source() -> Mapping[str, Any]:
    """template.yaml as data, read once; not to be changed."""
    return read_template()


@cache
def default_template() -> Template:
    """template.yaml with every parameter at its default, translated once."""
    return translate(template_source(), {})


def create_table(client: DynamoDBClient, logical_id: str) -> str:
    """Create an empty table with the keys and indexes of a table of the template; return its name."""
    properties: dict[str, Any] = dict(default_template().resources[logical_id].properties)
    name = f"{logical_id}-{next(_number)}"
    wanted = ("KeySchema", "AttributeDefinitions", "BillingMode", "GlobalSecondaryIndexes")
    client.create_table(TableName=name, **{key: properties[key] for key in wanted if key in properties})
    eventually(lambda: client.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE", f"{name} is there")
    return name
