"""The comparison of two descriptions of the gateway's API: which differences count, and the reported lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optus_sms.gateway.contract import Comparison, Contract, compare
from optus_sms.gateway.transport import Exchange
from tests.support.health import answer, no_response

OFFICIAL = """\
openapi: 3.0.3
info:
  title: Mobile Gateway
paths:
  /messages:
    post:
      responses:
        202:
          description: API Single Message Response
components:
  schemas:
    SingleMessage:
      type: object
      required: [destination, content]
      properties:
        destination: {type: string}
        content:
          type: string
          maxLength: 1530
        scheduled: {type: string, format: date-time}
"""
SIMULATORS = (Path(__file__).parents[3] / "local" / "simulator" / "openapi.yaml").read_text()


def changed(text: str, before: str = OFFICIAL) -> Comparison:
    """Return the comparison of a document with an earlier one."""
    first = compare(answer(200, before.encode()), None)
    assert first.contract is Contract.BASELINE
    return compare(answer(200, text.encode()), first.document)


@pytest.mark.parametrize("text", [OFFICIAL, SIMULATORS, "\ufeff# ours\n'openapi': \"3.1.0\"\n"])
def test_the_first_document_is_the_baseline_and_the_same_again_is_no_change(text: str) -> None:
    first = compare(answer(200, text.encode()), None)
    assert (first.contract, first.differences, first.changed_lines) == (Contract.BASELINE, (), 0)
    assert first.document.splitlines()[-1] == text.splitlines()[-1]
    assert compare(answer(200, text.encode()), first.document) == Comparison(Contract.SAME, first.document)


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("maxLength: 1530", "maxLength: 160", ("-          maxLength: 1530", "+          maxLength: 160")),
        (
            "      required:",
            "      additionalProperties: false\n      required:",
            ("+      additionalProperties: false",),
        ),
        (
            "        scheduled: {type: string, format: date-time}\n",
            "",
            ("-        scheduled: {type: string, format: date-time}",),
        ),
        (
            "[destination, content]",
            "[destination, content, campaign]",
            ("-      required: [destination, content]", "+      required: [destination, content, campaign]"),
        ),
        ("paths:", "servers: []\npaths:", ("+servers: []",)),
        ("202:", "201:", ("-        202:", "+        201:")),
    ],
)
def test_each_change_is_reported_with_its_lines(before: str, after: str, lines: tuple[str, ...]) -> None:
    comparison = changed(OFFICIAL.replace(before, after))
    assert comparison.contract is Contract.CHANGED
    assert comparison.changed_lines == len(lines)
    assert tuple(line for line in comparison.differences if line[0] in "+-") == lines
    assert comparison.differences[0].startswith("@@ ")


def test_what_changed_is_seen_in_its_context() -> None:
    assert changed(OFFICIAL.replace("1530", "160")).differences == (
        "@@ -16,5 +16,5 @@",
        "         destination: {type: string}",
        "         content:",
        "           type: string",
        "-          maxLength: 1530",
        "+          maxLength: 160",
        "         scheduled: {type: string, format: date-time}",
    )


@pytest.mark.parametrize(
    "again",
    [OFFICIAL.replace("\n", "\r\n"), OFFICIAL.replace("\n", "  \n"), OFFICIAL.rstrip(), "\ufeff\n" + OFFICIAL + "\n\n"],
)
def test_line_ends_and_spaces_at_them_are_no_change(again: str) -> None:
    assert changed(again).contract is Contract.SAME


def test_json_is_compared_value_by_value_however_it_is_laid_out() -> None:
    document = {"openapi": "3.0.3", "paths": {}, "components": {"content": {"type": "string", "maxLength": 1530}}}
    one_line = json.dumps(document)
    assert changed(json.dumps(document, indent=4, sort_keys=True), one_line).contract is Contract.SAME
    comparison = changed(one_line.replace("1530", "160"), one_line)
    assert comparison.changed_lines == 2
    assert {'-"maxLength": 1530,', '+"maxLength": 160,'} <= set(comparison.differences)


def test_the_lines_of_a_large_change_are_counted_but_not_all_listed() -> None:
    lines = [f"x-{number}: {number}" for number in range(500)]
    comparison = changed(OFFICIAL + "\n".join(lines))
    assert comparison.changed_lines == 500
    assert len(comparison.differences) == 101
    assert comparison.differences[-1].startswith("… and ")


@pytest.mark.parametrize("number", ["+61-491-570-006", "(0491) 570.006", "٠٤٩١٥٧٠٠٠٦", "%2B61491570006"])
def test_a_number_in_any_form_stays_out_of_the_log_and_a_limit_does_not(number: str) -> None:
    note, limit = changed(f"{OFFICIAL}x-note: call {number}; maxLength 65535").differences[-1].split(";")
    assert note.startswith("+x-note: call ")
    assert not any(character.isdigit() for character in note)
    assert limit == " maxLength 65535"


def test_a_line_is_fit_for_a_log() -> None:
    strange = "x-note: \x1b[31mcall +61491570006 or +61 491 570 006\x00\u202e" + "a" * 1000
    line = changed(OFFICIAL + strange).differences[-1]
    assert line.startswith("+x-note: [31mcall … or …")
    assert line.isprintable()
    assert len(line) == 200


@pytest.mark.parametrize("before", [None, OFFICIAL])
def test_absent_is_a_result_of_its_own(before: str | None) -> None:
    absent = Comparison(Contract.ABSENT, reason="HTTP 404")
    assert compare(answer(404, {"message": "Not Found"}), before) == absent


@pytest.mark.parametrize("before", [None, OFFICIAL])
@pytest.mark.parametrize(
    ("looked", "reason"),
    [
        (no_response("timed_out"), "timed_out"),
        (answer(503), "HTTP 503"),
        (answer(401), "HTTP 401"),
        (answer(200, None, "body_too_large"), "body_too_large"),
        (answer(200, b""), "not an OpenAPI 3 document"),
        (answer(200, b"<html>maintenance</html>"), "not an OpenAPI 3 document"),
        (answer(200, b"<html><pre>\nopenapi: 3.0.3\n</pre></html>"), "not an OpenAPI 3 document"),
        (answer(200, {"message": "Internal Server Error", "statusCode": 500}), "not an OpenAPI 3 document"),
        (answer(200, {"openapi": "2.0"}), "not an OpenAPI 3 document"),
        (answer(200, b'{"openapi": "3.0.3", '), "not an OpenAPI 3 document"),
        (answer(200, b"swagger: '2.0'"), "not an OpenAPI 3 document"),
        (answer(200, b"info: {}\n  openapi: 3.0.3"), "not an OpenAPI 3 document"),
        (answer(200, b"[1, 2]"), "not an OpenAPI 3 document"),
        (answer(200, b"\xff\xfe\x00"), "not an OpenAPI 3 document"),
        (answer(200, b'{"a":' * 10_000), "not an OpenAPI 3 document"),
    ],
)
def test_what_is_no_openapi_document_is_a_result_of_its_own(looked: Exchange, reason: str, before: str | None) -> None:
    assert compare(looked, before) == Comparison(Contract.UNREADABLE, reason=reason)


@pytest.mark.parametrize("filler", ['"é",', "[],", '"\\ud800",', "1,"])
def test_json_of_the_longest_body_fits_into_an_item(filler: str) -> None:
    values = filler * (60_000 // len(filler.encode()))
    body = '{"openapi": "3.0.3", "x": [' + values + "0]}"
    assert len(compare(answer(200, body.encode()), None).document.encode()) < 400 * 1024
