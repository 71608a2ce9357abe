"""Does the gateway's own `openapi.yaml` still say what we rely on? Asked daily; tells exactly what changed.

We rely on `POST /messages` and the two callbacks. What a document adds beside that is no difference; what it takes away
or demands in addition is. A document that is absent or can't be read says nothing, and is a result of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

import yaml

from optus_sms.model.statuses import STATUS_RANK
from optus_sms.runtime.observability import Measurement, Metric, error_fields, logger

if TYPE_CHECKING:
    from optus_sms.gateway.credentials import GatewayCredentials
    from optus_sms.gateway.transport import Exchange

_MOST_REFERENCES: Final = 10  # one after the other; more is a circle
_MOST_DIFFERENCES: Final = 50


class Contract(StrEnum):
    """The result of one comparison."""

    SAME = "same"
    CHANGED = "changed"
    ABSENT = "absent"  # status 404: this gateway does not offer it, or not to us
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Comparison:
    """``differences``: one line each, empty unless changed; ``reason``: why nothing could be compared."""

    contract: Contract
    differences: tuple[str, ...] = ()
    reason: str = ""


class GatewayPort(Protocol):
    """`optus_sms.gateway.api.Gateway`, as far as it is used here."""

    def get_contract(self, credentials: GatewayCredentials | None) -> Exchange:
        """`GET /openapi.yaml`; never raises."""


class SecretPort(Protocol):
    """`optus_sms.gateway.credentials.GatewaySecret`, as far as it is used here."""

    def current(self) -> GatewayCredentials:
        """The credentials, or `CredentialsError`."""


class _Document:
    """A parsed OpenAPI 3 document; whatever is missing or of another form on the way is an empty mapping."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root

    def at(self, start: object, *path: str) -> Mapping[str, Any]:
        """What is found along a path of keys, references within the document followed at each step."""
        node = self._followed(start)
        for key in path:
            node = self._followed(node.get(key) if isinstance(node, Mapping) else None)
        return node if isinstance(node, Mapping) else {}

    def _followed(self, node: object) -> Any:
        for _ in range(_MOST_REFERENCES):
            reference = node.get("$ref") if isinstance(node, Mapping) else None
            if not isinstance(reference, str) or not reference.startswith("#/"):
                return node
            node = self.root
            for key in reference[2:].split("/"):
                node = node.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
        return None

    @property
    def post(self) -> Mapping[str, Any]:
        return self.at(self.root, "paths", "/messages", "post")

    @property
    def request_schema(self) -> Mapping[str, Any]:
        return self.at(self.post, "requestBody", "content", "application/json", "schema")

    @property
    def answer_schema(self) -> Mapping[str, Any]:
        return self.at(self.post, "responses", "202", "content", "application/json", "schema")

    def callback_schema(self, name: str) -> Mapping[str, Any]:
        """The body of one of the two callbacks, which have one address each."""
        for operations in self.at(self.post, "callbacks", name).values():
            return self.at(operations, "post", "requestBody", "content", "application/json", "schema")
        return {}


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing we rely on, where it is written, and what a document says against it."""

    what: str
    source: str
    differences: Callable[[_Document], Iterator[str]]


def _operation(document: _Document) -> Iterator[str]:
    if not document.post:
        yield "POST /messages is gone"


def _security(document: _Document) -> Iterator[str]:
    """Basic credentials in the Authorization header, which the page describes as an API key in that header."""
    if not document.post:
        return
    needed = document.post.get("security", document.root.get("security"))
    names = {name for option in _list(needed) if isinstance(option, Mapping) for name in option}
    schemes = [document.at(document.root, "components", "securitySchemes", name) for name in sorted(names)]
    if not any(_is_basic(scheme) for scheme in schemes):
        yield "POST /messages no longer takes Basic credentials in the Authorization header"


def _is_basic(scheme: Mapping[str, Any]) -> bool:
    if scheme.get("type") == "http":
        return str(scheme.get("scheme", "")).lower() == "basic"
    in_header = (scheme.get("type"), scheme.get("in")) == ("apiKey", "header")
    return in_header and str(scheme.get("name", "")).lower() == "authorization"


def _required(document: _Document) -> Iterator[str]:
    if not document.post:
        return
    if not document.request_schema:
        yield "POST /messages no longer takes application/json"
        return
    for name in _new(document.request_schema.get("required"), ("destination", "content")):
        yield f"POST /messages requires a new field: {name}"


_SENT: Final = {
    "destination": "string",
    "content": "string",
    "source": "string",
    "reference": "string",
    "class": "string",
    "mask": "string",
    "sms_class": "integer",
    "scheduled": "string",
}


def _fields(document: _Document) -> Iterator[str]:
    properties = document.at(document.request_schema, "properties")
    for name, kind in _SENT.items() if document.request_schema else ():
        now = document.at(properties, name).get("type") if name in properties else None
        if name not in properties:
            yield f"POST /messages no longer knows the field {name}"
        elif now not in (kind, None):
            yield f"POST /messages: {name} is {_short(now)}, was {kind}"


def _accepted(document: _Document) -> Iterator[str]:
    if not document.post:
        return
    if not document.at(document.post, "responses", "202"):
        yield "POST /messages no longer answers 202"
    elif "id" not in document.at(document.answer_schema, "properties"):
        yield "POST /messages: the 202 no longer has an id"


def _status_callback(document: _Document) -> Iterator[str]:
    properties = document.at(document.callback_schema("status"), "properties")
    if not document.post:
        return
    if not properties:
        yield "the status callback is gone"
        return
    if not {"id", "message_id"} & set(properties):
        yield "the status callback no longer has an id"
    if "status" not in properties:
        yield "the status callback no longer has a status"
    statuses = document.at(properties, "status").get("enum")
    for name in _new(statuses, STATUS_RANK):
        yield f"there is a new status: {name}"
    for name in sorted(_DOCUMENTED_STATUSES - set(map(str, _list(statuses)))) if statuses else ():
        yield f"the status {name} is gone"


# Those of gateway-rest-v2.txt; `queued`, `blocked` and `deficient` are in some editions of the document only.
_DOCUMENTED_STATUSES: Final = frozenset(STATUS_RANK) - {"queued", "blocked", "deficient"}


def _reply_callback(document: _Document) -> Iterator[str]:
    properties = document.at(document.callback_schema("reply"), "properties")
    if not document.post:
        return
    if not properties:
        yield "the reply callback is gone"
        return
    for name in ("id", "source", "content"):
        if name not in properties:
            yield f"the reply callback no longer has the field {name}"


RELIED_ON: Final = (
    Clause("the operation", "gateway-rest-v2.txt, post__messages", _operation),
    Clause("the credentials", "gateway-rest-v2.txt, Authentication", _security),
    Clause("the fields required", "gateway-rest-v2.txt, SingleMessage", _required),
    Clause("the fields sent", "gateway-rest-v2.txt, SingleMessage", _fields),
    Clause("the success", "gateway-rest-v2.txt, post__messages, Responses", _accepted),
    Clause("status callbacks", "gateway-rest-v2.txt, StatusCallback", _status_callback),
    Clause("replies", "gateway-rest-v2.txt, ReplyCallback", _reply_callback),
)


def compare(answer: Exchange) -> Comparison:
    """What an answer to `GET /openapi.yaml` says."""
    if answer.status == 404:
        return Comparison(Contract.ABSENT, reason="status 404")
    if answer.status != 200 or answer.body is None:
        return Comparison(Contract.UNREADABLE, reason=answer.failure or f"status {answer.status}")
    try:
        document = yaml.load(answer.body, Loader=_Loader)  # noqa: S506 - a SafeLoader
        if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
            return Comparison(Contract.UNREADABLE, reason="not an OpenAPI 3 document")
        read = _Document(document)
        differences = tuple(line for clause in RELIED_ON for line in clause.differences(read))
    except Exception as error:  # noqa: BLE001 - a stranger's document can break a parser in many ways
        return Comparison(Contract.UNREADABLE, reason=f"not YAML ({type(error).__name__})")
    return Comparison(Contract.CHANGED if differences else Contract.SAME, differences[:_MOST_DIFFERENCES])


class _Loader(yaml.SafeLoader):
    """Keys stay text: a response's `202` without quotes is a number in YAML."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        return {str(key): value for key, value in super().construct_mapping(node, deep=deep).items()}


@dataclass(frozen=True)
class ContractWatch:
    """One per sandbox."""

    gateway: GatewayPort
    secret: SecretPort

    def check(self) -> tuple[Mapping[str, Any], tuple[Measurement, ...]]:
        """Ask once and report: the result for the caller, and what to publish."""
        comparison = compare(self.gateway.get_contract(self._credentials()))
        result = {
            "contract": comparison.contract.value,
            "differences": list(comparison.differences),
            "reason": comparison.reason,
        }
        match comparison.contract:
            case Contract.SAME:
                logger().info("gateway contract as expected")
            case Contract.CHANGED:
                logger().error("gateway contract changed", extra={"differences": result["differences"]})
            case Contract.ABSENT | Contract.UNREADABLE:
                logger().warning("gateway contract not compared", extra=result)
        if comparison.contract in (Contract.SAME, Contract.CHANGED):
            return result, (
                (Metric.CONTRACT_DIFFERENCES, float(len(comparison.differences))),
                (Metric.CONTRACT_UNREADABLE, 0.0),
            )
        return result, ((Metric.CONTRACT_UNREADABLE, 1.0),)

    def _credentials(self) -> GatewayCredentials | None:
        try:
            return self.secret.current()
        except Exception as error:  # noqa: BLE001 - the document may be public
            logger().warning("asked without credentials", extra=error_fields(error))
            return None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _new(now: object, known: Mapping[str, Any] | tuple[str, ...]) -> list[str]:
    return sorted(_short(name) for name in _list(now) if str(name) not in known)


def _short(value: object) -> str:
    """A stranger's word, fit for a log."""
    return "".join(character for character in str(value) if character.isprintable())[:80]
