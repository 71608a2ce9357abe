"""The JSON object in an SQS body, read so strictly that it has one meaning."""

import json
from collections import Counter
from typing import Any, Final, NoReturn

from optus_sms.model.errors import InvalidMessageError

_BYTE_ORDER_MARK: Final = "\ufeff"  # some editors and .NET write it
_SHOWN: Final = 50  # characters of a name from the message


def read_object(body: str) -> dict[str, Any]:
    """Return the JSON object in a body. `InvalidMessageError` if it is another value, or has a name twice.

    If a name is given twice, JSON parsers disagree about the value, so I-JSON forbids it (RFC 7493, 2.3): of two
    numbers, the message could go to the wrong one. A byte order mark is skipped.
    """
    try:
        body.encode()  # a lone surrogate can't be encoded as UTF-8
        value = json.loads(
            body.removeprefix(_BYTE_ORDER_MARK), object_pairs_hook=_names_once, parse_constant=_no_number
        )
    except RecursionError:
        raise InvalidMessageError("body: must be JSON; nested too deeply") from None
    except ValueError as error:
        raise InvalidMessageError(f"body: must be JSON; {_reason(error)}") from None
    if envelope := _envelope(value):
        raise InvalidMessageError(f"body: {envelope}")
    if not isinstance(value, dict):
        raise InvalidMessageError("body: must be a JSON object")
    fields: dict[str, Any] = value
    return fields


def _envelope(value: object) -> str | None:  # noqa: PLR0911 - one line for each
    """If the message can be inside the value, return what the value is and how to queue the message itself."""
    match value:
        case str() if value.lstrip().startswith("{"):
            return "is a JSON string with JSON in it; encode the object once, not twice"
        case list():
            return "is a JSON array; queue each message separately, as an object"
        case {"Type": "Notification" | "SubscriptionConfirmation" | "UnsubscribeConfirmation", "TopicArn": _}:
            return "is an SNS notification; set RawMessageDelivery to true on the queue's subscription"
        case {"detail-type": _, "detail": _}:
            return (
                "is a whole EventBridge event; set InputPath to $.detail on the rule's target, or an input transformer"
            )
        case {"Event": "s3:TestEvent"} | {"Records": [{"eventSource": "aws:s3"}, *_]}:
            return "is a notification of Amazon S3; remove the queue from the bucket's event notifications"
        case {"Records": [{"eventSource": _}, *_]}:
            return "is an event of another AWS service; queue the message itself"
    return None


def _names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that is given twice. Names are compared after parsing, so an escaped spelling is the same name."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
    raise InvalidMessageError(f"{twice[:_SHOWN]!a}: is given twice; JSON names must be unique, so remove one")


def _no_number(_: str) -> NoReturn:
    raise ValueError


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeError):
        return "not Unicode text"
    return str(error) if isinstance(error, json.JSONDecodeError) else "a number that JSON lacks, or that is too long"
