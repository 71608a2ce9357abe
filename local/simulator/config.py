"""Settings of one simulator. Times are seconds."""

from dataclasses import dataclass
from typing import Literal

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class GatewayConfig:
    """The settings that are fixed when a simulator starts; those that can change later are in `faults`.

    `seed=None`: a random one (`GatewaySimulator.seed`). Port 0: a free port. Callback URLs can have `user:password@`,
    URL-encoded, as in the platform's own portal; None: no callbacks of that kind. `tls_hosts`: use TLS, with a
    certificate for these names and addresses by an authority made at the start. The platform itself retries a callback
    every 60 s, up to 50 times (the carrier retry page).
    """

    application: str = "simulator"
    password: str = "simulator-password"
    bind: str = LOOPBACK
    port: int = 0
    control_port: int = 0
    tls_hosts: tuple[str, ...] = ()
    status_callback_url: str | None = None
    reply_callback_url: str | None = None
    callback_auth: Literal["preemptive", "challenge"] = "preemptive"
    callback_timeout_seconds: float = 10.0
    callback_workers: int = 8
    retry_interval_seconds: float = 60.0
    retry_tries: int = 50
    id_key: Literal["message_id", "id"] = "message_id"
    echo_reference: bool = True
    seed: int | None = None
    response_delay_seconds: float = 0.0
    status_step_seconds: float = 0.2
    slow_response_seconds: float = 5.0
    drip_interval_seconds: float = 0.2
    late_seconds: float = 5.0
    openapi: bool = True
    healthz: bool = True
    source: str = "202"
    keep_messages: int = 100_000
