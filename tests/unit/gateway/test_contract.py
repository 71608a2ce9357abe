"""The contract watch: which change of the gateway's document is told, in which words, and what is none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from optus_sms.gateway.contract import Comparison, Contract, ContractWatch, compare
from optus_sms.gateway.credentials import GatewayCredentials
from optus_sms.gateway.transport import Exchange
from optus_sms.model.errors import CredentialsError
from optus_sms.runtime.observability import Metric
from tests.support.health import answer, no_answer

SIMULATORS = (Path(__file__).parents[3] / "local" / "simulator" / "openapi.yaml").read_text()

# As the gateway's own page describes it (gateway-rest-v2.txt), in the words of its generator.
OFFICIAL = """
openapi: 3.0.3
info: {title: Mobile Gateway, version: 1.0.0}
paths:
  /openapi.yaml:
    get: {security: [], responses: {200: {description: OK}, 404: {description: Not found}}}
  /healthz:
    get: {security: [], responses: {200: {description: OK}}}
  /messages:
    post:
      security: [{GatewayAuthorizer: []}]
      requestBody:
        content: {application/json: {schema: {$ref: '#/components/schemas/SingleMessage'}}}
      responses:
        202:
          description: API Single Message Response
          content: {application/json: {schema: {$ref: '#/components/schemas/StatusCallback'}}}
        default: {description: API Error Response}
      callbacks:
        status:
          '{$url}':
            post:
              requestBody:
                content: {application/json: {schema: {$ref: '#/components/schemas/StatusCallback'}}}
              responses: {200: {description: OK}}
        reply:
          '{$url}':
            post:
              requestBody:
                content: {application/json: {schema: {$ref: '#/components/schemas/ReplyCallback'}}}
              responses: {200: {description: OK}}
components:
  securitySchemes:
    GatewayAuthorizer: {type: apiKey, name: Authorization, in: header}
  schemas:
    StatusCallback:
      type: object
      properties:
        id: {type: string, format: uuid}
        status:
          type: string
          enum: [accepted, submitted, sent, received, frozen, rejected, failed, dead, expired]
        detail: {type: string}
    ReplyCallback:
      type: object
      properties:
        id: {type: string}
        source: {type: string}
        destination: {type: string}
        content: {type: string}
        operator: {type: string}
    SingleMessage:
      type: object
      required: [destination, content]
      properties:
        id: {type: string, readOnly: true}
        destination: {type: string}
        source: {type: string}
        content: {type: string}
        reference: {type: string}
        class: {type: string}
        mask: {type: string}
        sms_class: {type: integer}
        scheduled: {type: string, format: date-time}
"""
DOCUMENTS = {"official": OFFICIAL, "simulator": SIMULATORS}
Change = Callable[[dict[str, Any]], object]


def says(text: str) -> Comparison:
    return compare(answer(200, text.encode()))


def post(document: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = document["paths"]["/messages"]["post"]
    return operation


def schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][name]
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_we_rely_on_is_in_the_documents_known(name: str) -> None:
    assert says(DOCUMENTS[name]) == Comparison(Contract.SAME)


DIFFERENCES: list[tuple[Change, str]] = [
    (lambda d: d["paths"].pop("/messages"), "POST /messages is gone"),
    (lambda d: d["paths"]["/messages"].pop("post"), "POST /messages is gone"),
    (
        lambda d: post(d).update(security=[]),
        "POST /messages no longer takes Basic credentials in the Authorization header",
    ),
    (
        lambda d: d["components"]["securitySchemes"].update(GatewayAuthorizer={"type": "http", "scheme": "bearer"}),
        "POST /messages no longer takes Basic credentials in the Authorization header",
    ),
    (
        lambda d: d["components"]["securitySchemes"].update(
            GatewayAuthorizer={"type": "apiKey", "in": "header", "name": "X-Api-Key"}
        ),
        "POST /messages no longer takes Basic credentials in the Authorization header",
    ),
    (
        lambda d: schema(d, "SingleMessage")["required"].append("campaign"),
        "POST /messages requires a new field: campaign",
    ),
    (
        lambda d: post(d)["requestBody"].update(content={"application/xml": {}}),
        "POST /messages no longer takes application/json",
    ),
    (
        lambda d: schema(d, "SingleMessage")["properties"].pop("scheduled"),
        "POST /messages no longer knows the field scheduled",
    ),
    (
        lambda d: schema(d, "SingleMessage")["properties"]["sms_class"].update(type="string"),
        "POST /messages: sms_class is string, was integer",
    ),
    (
        lambda d: [post(d)["responses"].pop(status, None) for status in (202, "202")],
        "POST /messages no longer answers 202",
    ),
    (
        lambda d: schema(d, "StatusCallback")["properties"].pop("status"),
        "the status callback no longer has a status",
    ),
    (lambda d: post(d)["callbacks"].pop("status"), "the status callback is gone"),
    (lambda d: post(d)["callbacks"].pop("reply"), "the reply callback is gone"),
    (
        lambda d: schema(d, "ReplyCallback")["properties"].pop("source"),
        "the reply callback no longer has the field source",
    ),
]


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize(("change", "words"), DIFFERENCES, ids=[words for _, words in DIFFERENCES])
def test_each_difference_is_told(name: str, change: Change, words: str) -> None:
    document = yaml.safe_load(DOCUMENTS[name])
    change(document)
    result = says(yaml.safe_dump(document))
    assert result.contract is Contract.CHANGED
    assert words in result.differences


def test_only_what_differs_is_told() -> None:
    document = yaml.safe_load(OFFICIAL)
    schema(document, "SingleMessage")["required"].append("campaign")
    schema(document, "StatusCallback")["properties"]["status"]["enum"].append("shredded")
    schema(document, "StatusCallback")["properties"]["status"]["enum"].remove("frozen")
    assert says(yaml.safe_dump(document)).differences == (
        "POST /messages requires a new field: campaign",
        "there is a new status: shredded",
        "the status frozen is gone",
    )


def test_the_id_may_have_either_name_but_not_none() -> None:
    document = yaml.safe_load(OFFICIAL)
    properties = schema(document, "StatusCallback")["properties"]
    properties["message_id"] = properties["id"]
    assert says(yaml.safe_dump(document)).contract is Contract.SAME
    del properties["id"], properties["message_id"]
    assert says(yaml.safe_dump(document)).differences == (
        "POST /messages: the 202 no longer has an id",
        "the status callback no longer has an id",
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["paths"].update({"/balance": {"get": {}}}),
        lambda d: schema(d, "SingleMessage")["properties"].update(campaign={"type": "string"}),
        lambda d: schema(d, "SingleMessage").update(required=["destination"]),
        lambda d: schema(d, "StatusCallback")["properties"]["status"]["enum"].append("blocked"),
        lambda d: d["components"]["securitySchemes"].update(GatewayAuthorizer={"type": "http", "scheme": "Basic"}),
        lambda d: [d.update(security=post(d).pop("security"))],
        lambda d: d["paths"].pop("/healthz"),
        lambda d: d["info"].update(version="2.0.0"),
    ],
)
def test_what_we_do_not_rely_on_may_change(change: Change) -> None:
    document = yaml.safe_load(OFFICIAL)
    change(document)
    assert says(yaml.safe_dump(document)) == Comparison(Contract.SAME)


def test_absent_is_a_result_of_its_own() -> None:
    assert compare(answer(404, {"message": "Not Found"})) == Comparison(Contract.ABSENT, reason="status 404")


@pytest.mark.parametrize(
    ("looked", "reason"),
    [
        (no_answer("timed_out"), "timed_out"),
        (answer(503), "status 503"),
        (answer(401), "status 401"),
        (answer(200, None, "body_too_large"), "body_too_large"),
        (answer(200, b""), "not an OpenAPI 3 document"),
        (answer(200, b"<html>maintenance</html>"), "not an OpenAPI 3 document"),
        (answer(200, b"swagger: '2.0'"), "not an OpenAPI 3 document"),
        (answer(200, b"[1, 2]"), "not an OpenAPI 3 document"),
        (answer(200, b"a: [1"), "not YAML (ParserError)"),
        (answer(200, b"\xff\xfe\x00"), "not YAML (ReaderError)"),
        (answer(200, b"openapi: !!python/object/apply:os.system ['true']"), "not YAML (ConstructorError)"),
        (answer(200, b"[" * 60_000), "not YAML (RecursionError)"),
    ],
)
def test_unreadable_is_a_result_of_its_own(looked: Exchange, reason: str) -> None:
    assert compare(looked) == Comparison(Contract.UNREADABLE, reason=reason)


def test_a_circle_of_references_ends() -> None:
    document = yaml.safe_load(OFFICIAL)
    document["components"]["schemas"]["SingleMessage"] = {"$ref": "#/components/schemas/SingleMessage"}
    assert says(yaml.safe_dump(document)).contract is Contract.CHANGED


def test_a_document_of_odd_forms_is_told_as_differences_and_never_raises() -> None:
    for odd in ("text", ["list"], 5, None):
        document = yaml.safe_load(OFFICIAL)
        document["components"] = odd
        assert says(yaml.safe_dump(document)).contract is Contract.CHANGED
        document["paths"] = odd
        assert says(yaml.safe_dump(document)).differences[0] == "POST /messages is gone"


class Gateway:
    def __init__(self, looked: Exchange) -> None:
        self.looked = looked
        self.asked_with: list[GatewayCredentials | None] = []

    def get_contract(self, credentials: GatewayCredentials | None) -> Exchange:
        self.asked_with.append(credentials)
        return self.looked


class Secret:
    def __init__(self, credentials: GatewayCredentials | None) -> None:
        self._credentials = credentials

    def current(self) -> GatewayCredentials:
        if self._credentials is None:
            raise CredentialsError("GatewaySecret still holds the placeholder")
        return self._credentials


@pytest.mark.parametrize(
    ("looked", "metrics", "level", "words"),
    [
        (
            answer(200, OFFICIAL.encode()),
            {Metric.CONTRACT_DIFFERENCES: 0.0, Metric.CONTRACT_UNREADABLE: 0.0},
            logging.INFO,
            "gateway contract as expected",
        ),
        (
            answer(200, OFFICIAL.replace("[destination, content]", "[destination, content, a, b]").encode()),
            {Metric.CONTRACT_DIFFERENCES: 2.0, Metric.CONTRACT_UNREADABLE: 0.0},
            logging.ERROR,
            "gateway contract changed",
        ),
        (answer(404), {Metric.CONTRACT_UNREADABLE: 1.0}, logging.WARNING, "gateway contract not compared"),
        (answer(500), {Metric.CONTRACT_UNREADABLE: 1.0}, logging.WARNING, "gateway contract not compared"),
    ],
)
def test_is_told_by_metric_and_log(
    looked: Exchange, metrics: dict[Metric, float], level: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    result, measurements = ContractWatch(Gateway(looked), Secret(GatewayCredentials("a", "p"))).check()
    assert dict(measurements) == metrics
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(level, words)]
    if result["differences"]:
        assert caplog.records[0].__dict__["differences"] == result["differences"]


@pytest.mark.parametrize("credentials", [GatewayCredentials("a", "p"), None])
def test_asks_with_credentials_if_there_are_any(credentials: GatewayCredentials | None) -> None:
    gateway = Gateway(answer(200, OFFICIAL.encode()))
    assert ContractWatch(gateway, Secret(credentials)).check()[0]["contract"] == "same"
    assert gateway.asked_with == [credentials]
