"""Settings of one simulator. Times are seconds."""

from dataclasses import dataclass
from typing import Literal

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class GatewayConfig:
    """Everything that is fixed when a simulator starts; what may change later is in `faults`.

    `seed=None` takes a random one (`GatewaySimulator.seed`). Port 0 takes a free port. Callback URLs may hold
    `user:password@`, URL-encoded, as in the platform's own portal; None sends no callbacks of that kind.
    `tls_hosts`: speak TLS, with a certificate for these names and addresses, of an authority made at the start.
    The platform itself retries a callback every 60 s, up to 50 times (the carrier retry page).
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
