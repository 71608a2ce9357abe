"""Small things of the command line: numbers, terminals, endpoints, AWS's errors, ages."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import botocore.exceptions as aws
import click
import pytest
from click.testing import CliRunner

from cli.context import CommandContext, with_context
from cli.doctor import _alarm_names
from cli.errors import CliError, Exit, from_aws
from cli.output import Output, json_text, number_in_list, one_line
from cli.parameters import Name, Since
from cli.target import choose, local_target, parse_endpoints
from optus_sms.records.table import EditedItemError


@pytest.mark.parametrize(("number", "expected"), [("+61491570006", "…006"), ("12345", "…"), ("", "-"), (None, "-")])
def test_lists_hide_a_number_but_its_end(number: str | None, expected: str) -> None:
    assert number_in_list(number) == expected


def test_a_number_is_whole_when_asked_for() -> None:
    assert number_in_list("+61491570006", show=True) == "+61491570006"


@pytest.mark.parametrize("text", ["\x1b[2J", "a\rb", "\u202egnp", "\x9b31m", "\u2066x", "\x00", "\x7f", "\u061c"])
def test_nothing_that_a_terminal_would_act_on_is_printed(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Output().line(text)
    Output().note(f"first\n{text}")
    captured = capsys.readouterr()
    for shown in (one_line(text), captured.out, captured.err):
        assert "\N{REPLACEMENT CHARACTER}" in shown
        assert not set(shown) & set("\x1b\r\u202e\x9b\u2066\x00\x7f\u061c")


@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_escapes_what_a_terminal_would_act_on_and_means_the_same(ascii_only: bool) -> None:
    value = {"\x9b": ["".join(map(chr, range(0x20A0))), "\ud800", "👍🏽"]}
    text = json_text(value, ascii_only=ascii_only)
    assert not set(text) & set("\x00\x1b\x7f\x85\x9b\u061c\u200e\u202e\u2028\u2066\u206f\ud800")
    assert json.loads(text) == value
    assert ("👍🏽" in text) is not ascii_only


def test_lines_stay_on_one_line_and_emoji_stay_whole() -> None:
    assert one_line("a\nb 👍🏽") == "a ⏎ b 👍🏽"


def test_endpoints_are_read_as_a_shell_would() -> None:
    text = "export A=1\nexport B='two words'\nexport C='it'\"'\"'s'\n"
    assert parse_endpoints(text) == {"A": "1", "B": "two words", "C": "it's"}


def test_the_local_stack_has_the_templates_outputs() -> None:
    target = local_target({"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "OUTBOUND_QUEUE_URL": "q"})
    assert (target.local, target.endpoint_url, target.outputs["OutboundQueueUrl"]) == (
        True,
        "http://127.0.0.1:4566",
        "q",
    )
    with pytest.raises(CliError, match="MessagesTableName"):
        target.outputs["MessagesTableName"]


def test_settings_for_aws_do_not_turn_away_from_the_local_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[broken")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    target = local_target({"AWS_ENDPOINT_URL": "http://127.0.0.1:2"})
    with pytest.raises(aws.EndpointConnectionError):
        target.sqs.list_queues()


def test_no_stack_at_all_says_how_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CliError, match="--stack NAME") as raised:
        choose(stack=None, local=False, region=None, profile=None)
    assert raised.value.exit_code == Exit.NO_TARGET
    with pytest.raises(CliError, match="make run"):
        choose(stack=None, local=True, region=None, profile=None)
    with pytest.raises(CliError, match="--local"):
        choose(stack="x", local=True, region=None, profile=None)


def _answer(code: str) -> aws.ClientError:
    return aws.ClientError({"Error": {"Code": code, "Message": "secret words"}}, "UpdateItem")


@pytest.mark.parametrize(
    ("error", "says", "code"),
    [
        (aws.NoCredentialsError(), "credentials", Exit.NO_TARGET),
        (aws.NoRegionError(), "region", Exit.NO_TARGET),
        (aws.ProfileNotFound(profile="x"), "list-profiles", Exit.NO_TARGET),
        (aws.EndpointConnectionError(endpoint_url="https://x"), "AWS can't be reached", Exit.NO_TARGET),
        (aws.UnauthorizedSSOTokenError(), "has expired", Exit.NO_TARGET),
        (aws.ReadTimeoutError(endpoint_url="https://x"), "Retry", Exit.FAILED),
        (_answer("ExpiredToken"), "have expired", Exit.NO_TARGET),
        (_answer("InvalidClientTokenId"), "rejects these credentials", Exit.NO_TARGET),
        (_answer("AccessDeniedException"), "may not call UpdateItem", Exit.FAILED),
        (_answer("InternalError"), "AWS refused UpdateItem: InternalError", Exit.FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_of_aws_name_the_next_step(error: Any, says: str, code: Exit) -> None:
    found = from_aws(error, local=False)
    assert says in found.message
    assert found.next_step
    assert found.exit_code == code
    assert "secret words" not in found.message


@pytest.mark.parametrize(
    "error",
    [
        aws.UnauthorizedSSOTokenError(),
        aws.SSOTokenLoadError(error_msg="gone"),
        aws.TokenRetrievalError(provider="sso", error_msg="expired"),
        aws.NoAuthTokenError(),
        aws.LoginRefreshRequired(),
        aws.LoginTokenLoadError(error_msg="gone"),
        aws.CredentialRetrievalError(provider="custom-process", error_msg="exit 1"),
        aws.MetadataRetrievalError(error_msg="gone"),
        aws.RefreshWithMFAUnsupportedError(),
        _answer("ExpiredToken"),
        _answer("ExpiredTokenException"),
        _answer("RequestExpired"),
        _answer("UnrecognizedClientException"),
        _answer("InvalidClientTokenId"),
        aws.NoCredentialsError(),
    ],
    ids=lambda error: getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__),
)
@pytest.mark.parametrize(
    ("settings", "renewal"),
    [
        ("sso_session = work", "aws sso login --profile p"),
        ("sso_start_url = https://x", "aws sso login --profile p"),
        ("login_session = arn:aws:iam::1:user/x", "aws login --profile p"),
        ("credential_process = /opt/vault get", "credential_process: /opt/vault get"),
        ("role_arn = r\nsource_profile = q\n[profile q]\nsso_session = work", "aws sso login --profile q"),
        ("region = x", "aws configure"),
    ],
)
def test_a_login_of_any_kind_that_has_ended_names_what_renews_it(
    error: Any, settings: str, renewal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(f"[profile p]\n{settings}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    found = from_aws(error, local=False, profile="p")
    assert (found.exit_code, found.next_step.endswith(renewal) or renewal in found.next_step) == (Exit.NO_TARGET, True)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (aws.ProxyConnectionError(proxy_url="http://proxy:1"), "unset HTTPS_PROXY"),
        (aws.SSLError(endpoint_url="https://x", error=OSError("unknown issuer")), "AWS_CA_BUNDLE"),
        (aws.ConnectTimeoutError(endpoint_url="https://x"), "AWS can't be reached"),
        (aws.ReadTimeoutError(endpoint_url="https://x"), "AWS: Read timeout"),
        (EditedItemError("the type of history"), "was edited by hand"),
        (OSError(28, "No space left on device"), "The output can't be written: No space left on device"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_words_of_its_own(error: Exception, says: str) -> None:
    @click.command()
    @with_context
    def command(_: CommandContext) -> None:
        raise error

    assert says in CliRunner().invoke(command, []).output


def test_credentials_in_variables_are_said_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    assert "AWS_SESSION_TOKEN" in from_aws(_answer("ExpiredToken"), local=False).next_step


def test_a_local_stack_that_is_gone_says_make_run() -> None:
    found = from_aws(aws.EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), local=True)
    assert "make run" in found.message


@pytest.mark.parametrize(("age", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604_800)])
def test_ages_count_back_from_now(age: str, seconds: int) -> None:
    before = time.time()
    assert before - seconds <= Since().convert(age, None, None) <= time.time() - seconds


def test_times_have_an_offset() -> None:
    assert Since().convert("2026-01-01T11:00:00+11:00", None, None) == 1_767_225_600
    for text in (
        "2026-01-01T00:00:00", "yesterday", "0d", "-1h", "7", "", "999999d", "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ):  # fmt: skip
        with pytest.raises(click.BadParameter):
            Since().convert(text, None, None)


@pytest.mark.parametrize("text", ["", "x" * 256, "\udcff"], ids=["empty", "long", "not UTF-8"])
def test_a_name_that_no_table_can_have_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Name().convert(text, None, None)
    assert Name().convert("x" * 255, None, None) == "x" * 255


def test_the_doctor_looks_at_all_alarms_of_the_stack_and_at_nothing_else() -> None:
    types = {"A": "AWS::CloudWatch::Alarm", "B": "AWS::CloudWatch::CompositeAlarm", "C": "AWS::CloudWatch::Dashboard"}
    summaries = [{"PhysicalResourceId": name, "ResourceType": kind} for name, kind in types.items()]
    client = Mock()
    client.get_paginator.return_value.paginate.return_value = [{"StackResourceSummaries": summaries}]
    target = Mock(spec=["client", "name"])
    target.client.return_value = client
    assert _alarm_names(target) == ["A", "B"]
