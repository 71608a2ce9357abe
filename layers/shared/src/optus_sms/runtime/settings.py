"""The environment variables of each function, parsed once; an error lists all problems.

A field's variable is its name in capitals, and its rule is part of its type. Named tuples, because pydantic would slow
down cold starts. No `from __future__ import annotations`, because the rules are read from the annotations.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, Protocol, TypeVar, get_args
from urllib.parse import urlsplit

from optus_sms.model.errors import SettingsError
from optus_sms.model.lanes import Lane
from optus_sms.model.opt_outs import parse_words

OnUnknown = Literal["hold", "resend"]
_Environment = Mapping[str, str]


class _Rule(NamedTuple):
    """A rule for a variable. ``parse`` raises `ValueError` for a text that breaks it; it also gets the environment."""

    must_be: str
    parse: Callable[[str, _Environment], object]
    may_be_empty: bool = False


def _at_least(least: int) -> _Rule:
    def parse(text: str, _: _Environment) -> int:
        number = int(text)
        if number < least:
            raise ValueError
        return number

    return _Rule(f"a whole number of at least {least}", parse)


def _choice(choices: Mapping[str, object]) -> _Rule:
    def parse(text: str, _: _Environment) -> object:
        if text.lower() not in choices:
            raise ValueError
        return choices[text.lower()]

    return _Rule(f"one of {', '.join(choices)}", parse)


def _seconds(text: str, _: _Environment) -> float:
    number = float(text)
    if not 1 <= number <= 30:  # an API gateway in front of the gateway ends each request after 30 seconds
        raise ValueError
    return number


def _gateway_url(text: str, environment: _Environment) -> str:
    """Accept only https, because each request has the password; accept http to loopback, or if explicitly allowed."""
    url = urlsplit(text)
    if not url.hostname or url.username or url.query or url.fragment or (url.port is not None and url.port <= 0):
        raise ValueError
    allow_http = environment.get("GATEWAY_ALLOW_HTTP", "").strip().lower() == "true"
    if url.scheme != "https" and not (url.scheme == "http" and (allow_http or _is_loopback(url.hostname))):
        raise ValueError
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _optional_url(text: str, _: _Environment) -> str:
    """Accept http and https, because no credentials are sent to this URL."""
    if text and (urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).hostname):
        raise ValueError
    return text


def _prefixes(text: str, _: _Environment) -> tuple[str, ...]:
    prefixes = tuple(part.strip() for part in text.split(",")) if text else ()
    if not all(re.fullmatch(r"\+[1-9][0-9]{0,14}", prefix) for prefix in prefixes):
        raise ValueError
    return prefixes


_HTTPS_RULE: Final = "an https URL without user, query or fragment (http: loopback, or GATEWAY_ALLOW_HTTP=true)"

_Text = Annotated[str, _Rule("text", lambda text, _: text)]
_AtLeast0 = Annotated[int, _at_least(0)]
_AtLeast1 = Annotated[int, _at_least(1)]
_Seconds = Annotated[float, _Rule("seconds from 1 to 30", _seconds)]
_TrueFalse = Annotated[bool, _choice({"true": True, "false": False})]
_HoldResend = Annotated[OnUnknown, _choice({"hold": "hold", "resend": "resend"})]
_GatewayUrl = Annotated[str, _Rule(_HTTPS_RULE, _gateway_url)]
_Prefixes = Annotated[tuple[str, ...], _Rule("empty or prefixes such as +61,+64", _prefixes, may_be_empty=True)]
_Words = Annotated[frozenset[str], _Rule("empty or words", lambda text, _: parse_words(text), may_be_empty=True)]
_OptionalUrl = Annotated[str, _Rule("empty or an http or https URL", _optional_url, may_be_empty=True)]


class GatewaySettings(Protocol):
    """Settings of every function that calls the gateway."""

    @property
    def gateway_base_url(self) -> str: ...
    @property
    def gateway_secret_id(self) -> str: ...
    @property
    def gateway_timeout_seconds(self) -> float: ...


class SendSettings(NamedTuple):
    """Settings of SendMessageFunction."""

    gateway_base_url: _GatewayUrl
    gateway_secret_id: _Text
    gateway_timeout_seconds: _Seconds
    send_ledger_table_name: _Text
    messages_table_name: _Text
    outbound_queue_url: _Text
    urgent_queue_url: _Text
    dead_letter_queue_url: _Text
    max_messages_per_second: _AtLeast0
    sender_concurrency: _AtLeast1
    max_urgent_per_second: _AtLeast0
    urgent_concurrency: _AtLeast1
    on_unknown_outcome: _HoldResend
    require_message_id: _TrueFalse
    separate_senders: _TrueFalse
    allowed_destinations: _Prefixes  # empty: all
    opt_out_table_name: _Text
    allow_despite_opt_out: _TrueFalse
    max_attempts: _AtLeast1
    retention_days: _AtLeast1

    def seconds_between_posts(self, lane: Lane) -> float:
        """Return the seconds between a lane's POSTs in each execution environment that keep its rate; 0: no limit."""
        rate, concurrency = {
            Lane.ORDINARY: (self.max_messages_per_second, self.sender_concurrency),
            Lane.URGENT: (self.max_urgent_per_second, self.urgent_concurrency),
        }[lane]
        return concurrency / rate if rate else 0.0


class ReceiveSettings(NamedTuple):
    """Settings of ReceiveCallbackFunction."""

    callback_secret_id: _Text
    messages_table_name: _Text
    send_ledger_table_name: _Text
    opt_out_table_name: _Text
    opt_out_words: _Words
    opt_in_words: _Words
    dead_letter_queue_url: _Text
    reply_match_days: _AtLeast0
    retention_days: _AtLeast1


class HealthSettings(NamedTuple):
    """Settings of CheckHealthFunction."""

    gateway_base_url: _GatewayUrl
    gateway_secret_id: _Text
    gateway_timeout_seconds: _Seconds
    service_status_url: _OptionalUrl  # empty: no status API
    send_ledger_table_name: _Text
    sender_mapping_id: _Text
    urgent_mapping_id: _Text
    stack_name: _Text
    pause_on_outage: _TrueFalse
    unhealthy_after_checks: _AtLeast1
    healthy_after_checks: _AtLeast1
    unknown_after_checks: _AtLeast1
    least_seconds_between_checks: _AtLeast0


class ReconcileSettings(NamedTuple):
    """Settings of ReconcileMessagesFunction."""

    gateway_base_url: _GatewayUrl
    gateway_secret_id: _Text
    gateway_timeout_seconds: _Seconds
    send_ledger_table_name: _Text
    messages_table_name: _Text
    retention_days: _AtLeast1


class PublishSettings(NamedTuple):
    """Settings of PublishEventsFunction."""

    event_bus_name: _Text
    unpublished_events_queue_url: _Text
    reply_text_in_events: _TrueFalse


_Settings = TypeVar("_Settings", bound=tuple[Any, ...])


def read_settings(kind: type[_Settings], environment: _Environment = os.environ) -> _Settings:
    """Read the variables of a function; `SettingsError` lists every missing or wrong one."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field, annotation in kind.__annotations__.items():
        name = field.upper()
        text = environment.get(name, "").strip()
        rule: _Rule = get_args(annotation)[1]
        if not text and not rule.may_be_empty:
            problems.append(f"{name} is not set")
            continue
        try:
            values[field] = rule.parse(text, environment)
        except ValueError:
            problems.append(f"{name} must be {rule.must_be}")
    if problems:
        raise SettingsError(problems)
    return kind(**values)
