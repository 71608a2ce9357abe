"""Environment variables: all problems at once, each by name, and plain http only where it can't be intercepted."""

from __future__ import annotations

from typing import Any

import pytest

from optus_sms.model.errors import SettingsError
from optus_sms.model.lanes import Lane
from optus_sms.runtime.settings import (
    HealthSettings,
    SendSettings,
    read_settings,
)
from tests.support.settings import SETTINGS

SEND = {
    "GATEWAY_BASE_URL": "https://gateway.example/rest/sms/v2",
    "GATEWAY_SECRET_ID": "secret",
    "SEND_LEDGER_TABLE_NAME": "ledger",
    "MESSAGES_TABLE_NAME": "messages",
    "OUTBOUND_QUEUE_URL": "https://sqs.example/1/outbound",
    "URGENT_QUEUE_URL": "https://sqs.example/1/urgent",
    "DEAD_LETTER_QUEUE_URL": "https://sqs.example/1/dead",
    "MAX_MESSAGES_PER_SECOND": "0",
    "SENDER_CONCURRENCY": "2",
    "MAX_URGENT_PER_SECOND": "0",
    "URGENT_CONCURRENCY": "2",
    "ON_UNKNOWN_OUTCOME": "hold",
    "REQUIRE_MESSAGE_ID": "false",
    "SEPARATE_SENDERS": "false",
    "ALLOWED_DESTINATIONS": "",
    "OPT_OUT_TABLE_NAME": "opt-outs",
    "ALLOW_DESPITE_OPT_OUT": "true",
    "MAX_ATTEMPTS": "10",
    "GATEWAY_TIMEOUT_SECONDS": "10",
    "RETENTION_DAYS": "90",
}


MAY_BE_EMPTY = {"service_status_url", "allowed_destinations", "opt_out_words", "opt_in_words"}


def problems(**changes: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read_settings(SendSettings, SEND | changes)
    return caught.value.problems


def test_a_complete_environment_is_read() -> None:
    assert read_settings(SendSettings, SEND) == SendSettings(
        gateway_base_url="https://gateway.example/rest/sms/v2",
        gateway_secret_id="secret",
        send_ledger_table_name="ledger",
        messages_table_name="messages",
        outbound_queue_url="https://sqs.example/1/outbound",
        urgent_queue_url="https://sqs.example/1/urgent",
        dead_letter_queue_url="https://sqs.example/1/dead",
        max_messages_per_second=0,
        sender_concurrency=2,
        max_urgent_per_second=0,
        urgent_concurrency=2,
        on_unknown_outcome="hold",
        require_message_id=False,
        separate_senders=False,
        allowed_destinations=(),
        opt_out_table_name="opt-outs",
        allow_despite_opt_out=True,
        max_attempts=10,
        gateway_timeout_seconds=10.0,
        retention_days=90,
    )


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_an_empty_environment_names_every_variable(settings: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(settings, {})
    assert len(caught.value.problems) == len(set(settings._fields) - MAY_BE_EMPTY)
    assert all(problem.endswith(" is not set") for problem in caught.value.problems)
    assert all(problem in str(caught.value) for problem in caught.value.problems)


@pytest.mark.parametrize("name", [name for name in SEND if name.lower() not in MAY_BE_EMPTY])
@pytest.mark.parametrize("value", ["", "  "])
def test_empty_is_not_set(name: str, value: str) -> None:
    assert problems(**{name: value}) == (f"{name} is not set",)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("MAX_MESSAGES_PER_SECOND", ["-1", "1.5", "many", "1e3"]),
        ("SENDER_CONCURRENCY", ["0", "-2", "two"]),
        ("MAX_URGENT_PER_SECOND", ["-1", "many"]),
        ("URGENT_CONCURRENCY", ["0", "two"]),
        ("MAX_ATTEMPTS", ["0", "x"]),
        ("RETENTION_DAYS", ["0", "x"]),
        ("GATEWAY_TIMEOUT_SECONDS", ["0", "0.9", "30.1", "nan", "inf", "ten", "-1"]),
        ("ON_UNKNOWN_OUTCOME", ["drop", "holdresend"]),
        ("REQUIRE_MESSAGE_ID", ["yes", "1", "0"]),
        ("SEPARATE_SENDERS", ["yes", "1"]),
        ("ALLOWED_DESTINATIONS", ["61", "+", "+0", "+61,", "+61;+64", "*"]),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(name: str, values: list[str]) -> None:
    for value in values:
        (problem,) = problems(**{name: value})
        assert problem.startswith(f"{name} must be ")
        assert value not in problem.removeprefix(name).split()


def test_all_problems_are_told_at_once() -> None:
    found = problems(GATEWAY_BASE_URL="ftp://x", MAX_ATTEMPTS="", ON_UNKNOWN_OUTCOME="drop", RETENTION_DAYS="x")
    assert [problem.split()[0] for problem in found] == [
        "GATEWAY_BASE_URL",
        "ON_UNKNOWN_OUTCOME",
        "MAX_ATTEMPTS",
        "RETENTION_DAYS",
    ]


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("FALSE", False), (" True ", True)])
def test_flags_in_any_case(value: str, expected: bool) -> None:
    assert read_settings(SendSettings, SEND | {"REQUIRE_MESSAGE_ID": value}).require_message_id is expected


def test_prefixes_are_read() -> None:
    read = read_settings(SendSettings, SEND | {"ALLOWED_DESTINATIONS": "+614, +64"})
    assert read.allowed_destinations == ("+614", "+64")


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://gateway.example", "https://gateway.example"),
        ("https://gateway.example/rest/v2/", "https://gateway.example/rest/v2"),
        ("https://gateway.example:8443/v2", "https://gateway.example:8443/v2"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.1.2.3", "http://127.1.2.3"),
        ("http://[::1]:8080/v2", "http://[::1]:8080/v2"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("HTTP://LOCALHOST", "HTTP://LOCALHOST"),
    ],
)
def test_gateway_urls(url: str, kept: str) -> None:
    assert read_settings(SendSettings, SEND | {"GATEWAY_BASE_URL": url}).gateway_base_url == kept


@pytest.mark.parametrize(
    "url",
    [
        "http://gateway.example", "http://localhost.example", "http://127.0.0.1.example", "http://10.0.0.1",
        "http://172.17.0.1:8080", "http://0.0.0.0", "gateway.example", "ftp://gateway.example", "https://", "https:///v2",
        "https://user:password@gateway.example", "https://user@gateway.example", "https://gateway.example?x=1",
        "https://gateway.example#x", "https://gateway.example:0", "https://gateway.example:99999",
        "https://gateway.example:port", "https://[::1", "//gateway.example",
    ],
)  # fmt: skip
@pytest.mark.parametrize("settings", [SendSettings, HealthSettings])
def test_urls_that_would_give_the_password_away_or_make_no_sense(settings: Any, url: str) -> None:
    with pytest.raises(SettingsError, match=r"^GATEWAY_BASE_URL must be an https URL") as caught:
        read_settings(settings, SEND | {"GATEWAY_BASE_URL": url})
    assert "password@" not in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "allowed"), [("true", True), (" TRUE ", True), ("false", False), ("1", False), ("", False)]
)
def test_plain_http_elsewhere_needs_a_flag(flag: str, allowed: bool) -> None:
    environment = SEND | {"GATEWAY_BASE_URL": "http://172.17.0.1:8080", "GATEWAY_ALLOW_HTTP": flag}
    if allowed:
        assert read_settings(SendSettings, environment).gateway_base_url == "http://172.17.0.1:8080"
    else:
        with pytest.raises(SettingsError):
            read_settings(SendSettings, environment)


def test_the_flag_allows_http_and_nothing_else() -> None:
    problem = "GATEWAY_BASE_URL must be an https URL"
    assert problems(GATEWAY_BASE_URL="ftp://gateway.example", GATEWAY_ALLOW_HTTP="true")[0].startswith(problem)


def test_reads_the_process_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SEND.items():
        monkeypatch.setenv(name, value)
    assert read_settings(SendSettings) == read_settings(SendSettings, SEND)


@pytest.mark.parametrize(("rate", "senders", "seconds"), [("0", "2", 0.0), ("1", "2", 2.0), ("50", "4", 0.08)])
def test_the_senders_share_the_rate(rate: str, senders: str, seconds: float) -> None:
    paced = read_settings(SendSettings, SEND | {"MAX_MESSAGES_PER_SECOND": rate, "SENDER_CONCURRENCY": senders})
    urgent = read_settings(SendSettings, SEND | {"MAX_URGENT_PER_SECOND": rate, "URGENT_CONCURRENCY": senders})
    for settings, lane, other in ((paced, Lane.ORDINARY, Lane.URGENT), (urgent, Lane.URGENT, Lane.ORDINARY)):
        assert settings.seconds_between_posts(lane) == seconds
        assert settings.seconds_between_posts(other) == 0.0
