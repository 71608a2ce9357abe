"""The environment variables of each function, parsed once, all problems reported at once.

Plain dataclasses: pydantic costs a cold start more than these few rules are worth (docs/decisions).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, cast
from urllib.parse import urlsplit

from optus_sms.model.errors import SettingsError

OnUnknown = Literal["hold", "resend"]
_T = TypeVar("_T")
_TRUE_FALSE: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class SendSettings:
    """What SendMessageFunction reads."""

    gateway_base_url: str
    gateway_secret_id: str
    send_ledger_table_name: str
    messages_table_name: str
    outbound_queue_url: str
    dead_letter_queue_url: str
    max_messages_per_second: int
    sender_concurrency: int
    on_unknown_outcome: OnUnknown
    require_message_id: bool
    max_attempts: int
    gateway_timeout_seconds: float
    retention_days: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> SendSettings:
        """`SettingsError` lists every missing or wrong variable."""
        read = _Reader(environment)
        settings = cls(
            gateway_base_url=read.gateway_url("GATEWAY_BASE_URL"),
            gateway_secret_id=read.text("GATEWAY_SECRET_ID"),
            send_ledger_table_name=read.text("SEND_LEDGER_TABLE_NAME"),
            messages_table_name=read.text("MESSAGES_TABLE_NAME"),
            outbound_queue_url=read.text("OUTBOUND_QUEUE_URL"),
            dead_letter_queue_url=read.text("DEAD_LETTER_QUEUE_URL"),
            max_messages_per_second=read.whole("MAX_MESSAGES_PER_SECOND", at_least=0),
            sender_concurrency=read.whole("SENDER_CONCURRENCY", at_least=1),
            on_unknown_outcome=cast(
                "OnUnknown", read.choice("ON_UNKNOWN_OUTCOME", {"hold": "hold", "resend": "resend"})
            ),
            require_message_id=read.choice("REQUIRE_MESSAGE_ID", _TRUE_FALSE),
            max_attempts=read.whole("MAX_ATTEMPTS", at_least=1),
            gateway_timeout_seconds=read.seconds("GATEWAY_TIMEOUT_SECONDS"),
            retention_days=read.whole("RETENTION_DAYS", at_least=1),
        )
        read.finish()
        return settings


@dataclass(frozen=True, slots=True)
class ReceiveSettings:
    """What ReceiveCallbackFunction reads."""

    callback_secret_id: str
    messages_table_name: str
    send_ledger_table_name: str
    dead_letter_queue_url: str
    reply_match_days: int
    retention_days: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ReceiveSettings:
        """`SettingsError` lists every missing or wrong variable."""
        read = _Reader(environment)
        settings = cls(
            callback_secret_id=read.text("CALLBACK_SECRET_ID"),
            messages_table_name=read.text("MESSAGES_TABLE_NAME"),
            send_ledger_table_name=read.text("SEND_LEDGER_TABLE_NAME"),
            dead_letter_queue_url=read.text("DEAD_LETTER_QUEUE_URL"),
            reply_match_days=read.whole("REPLY_MATCH_DAYS", at_least=0),
            retention_days=read.whole("RETENTION_DAYS", at_least=1),
        )
        read.finish()
        return settings


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """What CheckHealthFunction reads."""

    gateway_base_url: str
    gateway_secret_id: str
    service_status_url: str  # empty: there is none to ask
    send_ledger_table_name: str
    gateway_timeout_seconds: float
    sender_mapping_id: str
    stack_name: str
    pause_on_outage: bool
    unhealthy_after_checks: int
    healthy_after_checks: int
    unknown_after_checks: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> HealthSettings:
        """`SettingsError` lists every missing or wrong variable."""
        read = _Reader(environment)
        settings = cls(
            gateway_base_url=read.gateway_url("GATEWAY_BASE_URL"),
            gateway_secret_id=read.text("GATEWAY_SECRET_ID"),
            service_status_url=read.optional_url("SERVICE_STATUS_URL"),
            send_ledger_table_name=read.text("SEND_LEDGER_TABLE_NAME"),
            gateway_timeout_seconds=read.seconds("GATEWAY_TIMEOUT_SECONDS"),
            sender_mapping_id=read.text("SENDER_MAPPING_ID"),
            stack_name=read.text("STACK_NAME"),
            pause_on_outage=read.choice("PAUSE_ON_OUTAGE", _TRUE_FALSE),
            unhealthy_after_checks=read.whole("UNHEALTHY_AFTER_CHECKS", at_least=1),
            healthy_after_checks=read.whole("HEALTHY_AFTER_CHECKS", at_least=1),
            unknown_after_checks=read.whole("UNKNOWN_AFTER_CHECKS", at_least=1),
        )
        read.finish()
        return settings


@dataclass(frozen=True, slots=True)
class ReconcileSettings:
    """What ReconcileMessagesFunction reads."""

    gateway_base_url: str
    gateway_secret_id: str
    send_ledger_table_name: str
    messages_table_name: str
    gateway_timeout_seconds: float
    retention_days: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ReconcileSettings:
        """`SettingsError` lists every missing or wrong variable."""
        read = _Reader(environment)
        settings = cls(
            gateway_base_url=read.gateway_url("GATEWAY_BASE_URL"),
            gateway_secret_id=read.text("GATEWAY_SECRET_ID"),
            send_ledger_table_name=read.text("SEND_LEDGER_TABLE_NAME"),
            messages_table_name=read.text("MESSAGES_TABLE_NAME"),
            gateway_timeout_seconds=read.seconds("GATEWAY_TIMEOUT_SECONDS"),
            retention_days=read.whole("RETENTION_DAYS", at_least=1),
        )
        read.finish()
        return settings


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """What PublishEventsFunction reads."""

    event_bus_name: str
    unpublished_events_queue_url: str
    reply_text_in_events: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> PublishSettings:
        """`SettingsError` lists every missing or wrong variable."""
        read = _Reader(environment)
        settings = cls(
            event_bus_name=read.text("EVENT_BUS_NAME"),
            unpublished_events_queue_url=read.text("UNPUBLISHED_EVENTS_QUEUE_URL"),
            reply_text_in_events=read.choice("REPLY_TEXT_IN_EVENTS", _TRUE_FALSE),
        )
        read.finish()
        return settings


class _Reader:
    """Reads variables and collects what is wrong with them; a wrong one yields a value that `finish` never lets out."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._problems: list[str] = []

    def finish(self) -> None:
        if self._problems:
            raise SettingsError(self._problems)

    def text(self, name: str) -> str:
        value = self._environment.get(name, "").strip()
        if not value:
            self._problems.append(f"{name} is not set")
        return value

    def whole(self, name: str, *, at_least: int) -> int:
        return self._parsed(name, _whole(at_least), at_least, f"must be a whole number of at least {at_least}")

    def seconds(self, name: str) -> float:
        return self._parsed(name, _seconds, 1.0, "must be seconds from 1 to 30")

    def choice(self, name: str, choices: Mapping[str, _T]) -> _T:
        first = next(iter(choices.values()))
        return self._parsed(name, lambda text: choices[text.lower()], first, f"must be one of {', '.join(choices)}")

    def gateway_url(self, name: str) -> str:
        """https only, because each request carries the password; http to this machine or when explicitly allowed."""
        allow_http = self._environment.get("GATEWAY_ALLOW_HTTP", "").strip().lower() == "true"
        rule = "must be an https URL without user, query or fragment (http: loopback, or GATEWAY_ALLOW_HTTP=true)"
        return self._parsed(name, lambda text: _gateway_url(text, allow_http=allow_http), "", rule)

    def optional_url(self, name: str) -> str:
        """An address with or without a query, to which nothing secret is sent; empty if it is not set."""
        text = self._environment.get(name, "").strip()
        try:
            wrong = bool(text) and (urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).hostname)
        except ValueError:
            wrong = True
        if wrong:
            self._problems.append(f"{name} must be empty or an http or https URL")
        return text

    def _parsed(self, name: str, parse: Callable[[str], _T], otherwise: _T, rule: str) -> _T:
        text = self.text(name)
        if not text:
            return otherwise
        try:
            return parse(text)
        except (ValueError, KeyError):
            self._problems.append(f"{name} {rule}")
            return otherwise


def _whole(at_least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if number < at_least:
            raise ValueError
        return number

    return parse


def _seconds(text: str) -> float:
    number = float(text)
    if not 1 <= number <= 30:  # API Gateway in front of the gateway would cut off at 30 seconds
        raise ValueError
    return number


def _gateway_url(text: str, *, allow_http: bool) -> str:
    url = urlsplit(text)
    if not url.hostname or url.username or url.query or url.fragment or (url.port is not None and url.port <= 0):
        raise ValueError
    if url.scheme != "https" and not (url.scheme == "http" and (allow_http or _is_loopback(url.hostname))):
        raise ValueError
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
