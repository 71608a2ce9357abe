"""Items of the low-level DynamoDB client, for the few types we store.

boto3's own serializer goes through Decimal and a dozen type checks for each value; these are the hot path's writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

Value = str | int | bool | frozenset[str]
Item = dict[str, Value]


def marshal(values: Mapping[str, Value | None]) -> dict[str, AttributeValueTypeDef]:
    """Attribute values; None is left out."""
    return {name: _marshal(value) for name, value in values.items() if value is not None}


def unmarshal(item: Mapping[str, Any]) -> Item:
    """An item as plain values; types that we never store are ignored."""
    values: Item = {}
    for name, typed in item.items():
        match typed:
            case {"S": text}:
                values[name] = text
            case {"N": number}:
                values[name] = int(number)
            case {"BOOL": flag}:
                values[name] = flag
            case {"SS": texts}:
                values[name] = frozenset(texts)
    return values


def refused_item(error: ClientError) -> Item | None:
    """The item that refused a conditional write (empty if there was none); None if the error is another one."""
    if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
        return None
    response: Mapping[str, Any] = error.response
    return unmarshal(response.get("Item", {}))


def _marshal(value: Value) -> AttributeValueTypeDef:
    match value:
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case frozenset():
            return {"SS": sorted(value)}
