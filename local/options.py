"""The options of `make run`, from environment variables. An empty variable counts as unset."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from local.aws.stack import LOOPBACK_HOSTS, PORT_OF, ExternalGateway
from local.simulator.config import LOOPBACK, GatewayConfig

DEFAULT_PORT = 4600


class OptionError(Exception):
    """An option has an invalid value; the text names the option and its rule."""


@dataclass(frozen=True)
class Options:
    """The options of one `make run`."""

    once: bool = False
    no_examples: bool = False
    messages: int = 0
    """Messages to send after the examples, with a progress line."""
    port: int = DEFAULT_PORT
    """See `StackConfig.port`."""
    bind: str = LOOPBACK
    gateway: ExternalGateway | None = None
    tls: bool = False
    """Whether the simulator uses TLS."""
    schedule_speed: int = 1
    """The factor by which the schedules fire faster than their rate."""

    @property
    def gateway_is_far(self) -> bool:
        """Whether messages would leave this machine, and can cost money."""
        return self.gateway is not None and self.gateway.is_far


def read_options(environment: Mapping[str, str] = os.environ) -> Options:
    """Read the options from the environment. Raises OptionError."""
    given = {name: value.strip() for name, value in environment.items() if value.strip()}
    return Options(
        once=_flag(given, "ONCE"),
        no_examples=_flag(given, "NO_EXAMPLES"),
        messages=_number(given, "MESSAGES", 0, 0, 100_000),
        port=0
        if given.get("PORT") == "0"
        else _number(given, "PORT", DEFAULT_PORT, 1024, 65_535 - max(PORT_OF.values())),
        bind=_address(given),
        gateway=_gateway(given),
        tls=_flag(given, "TLS"),
        schedule_speed=_number(given, "SCHEDULE_SPEED", 1, 1, 600),
    )


def _flag(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, "0").lower()
    if value not in ("0", "1", "false", "true", "no", "yes"):
        raise OptionError(f"{name}={given[name]} is neither 1 nor 0")
    return value in ("1", "true", "yes")


def _number(given: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise OptionError(f"{name}={text} is not a whole number from {low} to {high}")
    return int(text)


def _address(given: Mapping[str, str]) -> str:
    bind = given.get("BIND", LOOPBACK)
    try:
        return str(ipaddress.IPv4Address(bind))
    except ValueError:
        raise OptionError(
            f"BIND={bind} is not an IPv4 address of this machine, such as {LOOPBACK} or 172.17.0.1"
        ) from None


def _gateway(given: Mapping[str, str]) -> ExternalGateway | None:
    base_url = given.get("GATEWAY_BASE_URL", "").rstrip("/")
    if not base_url:
        return None
    url = urlsplit(base_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise OptionError(f"GATEWAY_BASE_URL={base_url} is not an address like https://gateway.example/rest/sms/v2")
    if url.scheme == "http" and url.hostname not in LOOPBACK_HOSTS:
        raise OptionError("GATEWAY_BASE_URL: plain http would show credentials and texts to others; use https")
    if url.hostname in LOOPBACK_HOSTS:
        # A gateway on this machine is made for tests, and accepts the simulator's credentials or any others.
        given = {"GATEWAY_APPLICATION": GatewayConfig.application, "GATEWAY_PASSWORD": GatewayConfig.password, **given}
    missing = [name for name in ("GATEWAY_APPLICATION", "GATEWAY_PASSWORD") if name not in given]
    if missing:
        raise OptionError(f"GATEWAY_BASE_URL needs the gateway's credentials as well: set {' and '.join(missing)}")
    return ExternalGateway(base_url, given["GATEWAY_APPLICATION"], given["GATEWAY_PASSWORD"])
