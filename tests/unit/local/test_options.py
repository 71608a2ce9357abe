"""The options of `make run`: accepted values and errors."""

import pytest

from local.aws.stack import ExternalGateway
from local.options import DEFAULT_PORT, OptionError, Options, read_options

CREDENTIALS = {"GATEWAY_APPLICATION": "app", "GATEWAY_PASSWORD": "secret"}


def test_an_empty_option_is_not_set() -> None:
    empty = dict.fromkeys(("ONCE", "NO_EXAMPLES", "MESSAGES", "PORT", "BIND", "GATEWAY_BASE_URL"), "")

    assert read_options(empty) == read_options({}) == Options(port=DEFAULT_PORT, bind="127.0.0.1")


def test_each_option_counts() -> None:
    given = {"ONCE": "1", "NO_EXAMPLES": "yes", "MESSAGES": "1000", "PORT": "5000", "BIND": "0.0.0.0"}

    assert read_options(given) == Options(once=True, no_examples=True, messages=1000, port=5000, bind="0.0.0.0")
    assert read_options({"SCHEDULE_SPEED": "60"}).schedule_speed == 60
    assert read_options({"TLS": "1"}).tls
    assert read_options({"PORT": "0"}).port == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"PORT": "80"}, "PORT=80 is not a whole number"),
        ({"PORT": "65535"}, "PORT=65535 is not a whole number"),
        ({"MESSAGES": "-1"}, "MESSAGES=-1 is not a whole number"),
        ({"SCHEDULE_SPEED": "0"}, "SCHEDULE_SPEED=0 is not a whole number from 1 to 600"),
        ({"BIND": "myhost"}, "BIND=myhost is not an IPv4 address"),
        ({"ONCE": "maybe"}, "ONCE=maybe is neither 1 nor 0"),
        ({"GATEWAY_BASE_URL": "gateway.example"}, "is not an address"),
        ({"GATEWAY_BASE_URL": "https://gateway.example/v2"}, "set GATEWAY_APPLICATION and GATEWAY_PASSWORD"),
        ({"GATEWAY_BASE_URL": "http://gateway.example/v2", **CREDENTIALS}, "use https"),
    ],
)
def test_what_cannot_be_used_is_named(options: dict[str, str], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        read_options(options)


@pytest.mark.parametrize(
    ("base_url", "far"), [("http://127.0.0.1:8080/v2/", False), ("https://gateway.example/rest/sms/v2", True)]
)
def test_another_gateway_is_near_or_far(base_url: str, far: bool) -> None:
    options = read_options({"GATEWAY_BASE_URL": base_url, **CREDENTIALS})

    assert options.gateway == ExternalGateway(base_url.rstrip("/"), "app", "secret")
    assert options.gateway_is_far is far
    assert "secret" not in repr(options)


def test_a_gateway_on_this_machine_needs_no_credentials() -> None:
    options = read_options({"GATEWAY_BASE_URL": "http://127.0.0.1:8080/v2"})

    assert options.gateway == ExternalGateway("http://127.0.0.1:8080/v2", "simulator", "simulator-password")
