"""Log records by field: one meaning for CloudWatch's patterns and for the local stack's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from cli.errors import CliError
from cli.logs import FieldCondition, records


@pytest.mark.parametrize(
    ("text", "pattern", "record", "holds"),
    [
        ("message=rejected,invalid", '($.message = "rejected" || $.message = "invalid")', {"message": "invalid"}, True),
        ("message=rejected", '($.message = "rejected")', {"message": "rejected twice"}, False),
        ("message!=accepted", '($.message != "accepted")', {"message": "rejected"}, True),
        ("message!=a,b", '($.message != "a" && $.message != "b")', {"message": "b"}, False),
        ("message!=accepted", '($.message != "accepted")', {}, False),
        ("outcome=*", "($.outcome = *)", {"outcome": "x"}, True),
        ("outcome=*", "($.outcome = *)", {"message": "x"}, False),
        (
            "message=*no queue holds it*",
            '($.message = "*no queue holds it*")',
            {"message": "a: no queue holds it"},
            True,
        ),
        ("status=5*", '($.status = "5*")', {"status": 503}, True),
    ],
)
def test_a_condition_means_the_same_to_cloudwatch_and_to_the_local_log(
    text: str, pattern: str, record: dict[str, Any], holds: bool
) -> None:
    condition = FieldCondition.parse(text)
    assert (str(condition), condition.holds(record)) == (pattern, holds)


@pytest.mark.parametrize("text", ["message", "=x", "message=", "$.message=x", ""])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="^" + text.replace("$", r"\$")):
        FieldCondition.parse(text)


def deployed(pages: list[dict[str, Any]], group: str | None = "/a/group") -> Mock:
    target = Mock(local=False)
    target.physical_id.return_value = group
    target.client.return_value.get_paginator.return_value.paginate.return_value = pages
    return target


def test_a_deployed_stack_is_asked_by_one_pattern_for_each_group() -> None:
    target = deployed([{"events": [{"message": '{"a": 1}\n'}]}, {"events": []}])
    conditions = [FieldCondition.parse("message=a"), FieldCondition.parse("service!=b")]
    found = list(records(target, ["SendMessage", "CheckHealth"], conditions, since=5.0, failed=True))
    assert found == [("SendMessage", '{"a": 1}'), ("CheckHealth", '{"a": 1}')]
    assert [call.args[0] for call in target.physical_id.call_args_list] == [
        "SendMessageLogGroup",
        "CheckHealthLogGroup",
    ]
    asked = target.client.return_value.get_paginator.return_value.paginate.call_args.kwargs
    failed = '($.level = "ERROR" || ($.type = "platform.report" && $.record.status != "success"))'
    assert asked["filterPattern"] == f'{{ ($.message = "a") && ($.service != "b") && {failed} }}'
    assert asked["startTime"] == 5000


def test_without_a_condition_there_is_no_pattern() -> None:
    target = deployed([{"events": []}])
    assert list(records(target, ["SendMessage"], [], since=0, failed=False)) == []
    assert "filterPattern" not in target.client.return_value.get_paginator.return_value.paginate.call_args.kwargs


def test_another_template_is_said_to_be_one() -> None:
    with pytest.raises(CliError, match="no SendMessageLogGroup"):
        list(records(deployed([], None), ["SendMessage"], [], since=0, failed=False))


def test_the_local_log_is_read_by_function_time_and_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "functions.log"
    monkeypatch.setattr("cli.logs._LOCAL_LOG", log)
    old, new = "2026-11-26T09:00:00.000+00:00", "2026-11-26T11:00:00.000+00:00"
    lines = [
        f'SendMessageFunction {{"level":"ERROR","message":"old","timestamp":"{old}"}}',
        f'SendMessageFunction {{"level":"INFO","message":"accepted","timestamp":"{new}"}}',
        f'SendMessageFunction {{"level":"ERROR","message":"failed","timestamp":"{new}"}}',
        f'CheckHealthFunction {{"level":"ERROR","message":"other","timestamp":"{new}"}}',
        "SendMessageFunction Traceback (most recent call last):",
    ]
    log.write_text("\n".join(lines))
    target = Mock(local=True)
    since = 1795687200.0  # 2026-11-26T10:00:00Z
    found = [text for _, text in records(target, ["SendMessage"], [], since=since, failed=True)]
    assert [("failed" in text, "Traceback" in text) for text in found] == [(True, False), (False, True)]
    by_message = list(
        records(target, ["SendMessage"], [FieldCondition.parse("message=accepted")], since=since, failed=False)
    )
    assert len(by_message) == 1
