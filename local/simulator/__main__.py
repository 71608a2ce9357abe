"""`python -m local.simulator`: the simulator as a program. `--numbers` prints the table of magic numbers."""

import argparse
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from local.simulator.config import GatewayConfig
from local.simulator.scenarios import numbers_table
from local.simulator.server import GatewaySimulator

DEFAULTS = GatewayConfig(port=8025, control_port=8026)


def main(arguments: list[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM. Return 0 after these, 1 if it could not start."""
    options = vars(_parser().parse_args(arguments))
    if options.pop("numbers"):
        print(numbers_table())
        return 0
    authority = options.pop("tls")
    if authority:
        options["tls_hosts"] = (options["bind"], "localhost")
    config = GatewayConfig(**options)
    try:
        simulator = GatewaySimulator(config)
    except OSError as error:
        reason = error.strerror or error
        print(f"Cannot listen on port {config.port} or {config.control_port}: {reason}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if authority:
        authority.write_text(simulator.ca_certificate, encoding="ascii")
    _serve(simulator)
    return 0


def _serve(simulator: GatewaySimulator) -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with simulator:
        print(f"gateway  {simulator.url}")
        print(f"control  {simulator.control_url}")
        print(f"seed     {simulator.seed}  (the same again: --seed {simulator.seed})", flush=True)
        ended.wait()


def _parser() -> argparse.ArgumentParser:
    """Return the parser. Each option sets the field of GatewayConfig that its `dest` or its own name names."""
    parser = argparse.ArgumentParser(
        prog="python -m local.simulator",
        description="An SMS gateway for one machine: REST APIv2, callbacks, and every way to misbehave.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("--numbers", action="store_true", help="print the magic destination numbers and end")
    add("--bind", help="address of the gateway; the control endpoint stays on loopback")
    add("--port", type=int, help="port of the gateway; 0 takes a free one")
    add("--control-port", type=int, help="port of the control endpoint; 0 as above")
    tls = "speak TLS; the certificate of its authority is written to FILE (needs the package cryptography)"
    add("--tls", type=Path, metavar="FILE", help=tls)
    add("--application", help="application name, the user of Basic authentication")
    add("--password", help="its password")
    add("--status-url", dest="status_callback_url", help="status callback URL; may hold user:password@, URL-encoded")
    add("--reply-url", dest="reply_callback_url", help="reply callback URL, likewise")
    callback_auth = "send callback credentials at once, or only after a 401 with WWW-Authenticate"
    add("--callback-auth", choices=("preemptive", "challenge"), help=callback_auth)
    between = "seconds between two attempts of a callback"
    add("--retry-interval", type=float, dest="retry_interval_seconds", help=between)
    add("--retry-tries", type=int, help="attempts of a callback")
    add("--id-key", choices=("message_id", "id"), help="key of the ID in status callbacks")
    add("--reference", action=switch, dest="echo_reference", help="echo the reference")
    add("--seed", type=int, help="repeats IDs and every other random choice; random if not given")
    add("--response-delay", type=_milliseconds, dest="response_delay_seconds", help="milliseconds before each response")
    add("--status-step", type=float, dest="status_step_seconds", help="seconds from one status to the next")
    add("--slow-response", type=float, dest="slow_response_seconds", help="seconds of scenario slow_response")
    add("--drip", type=float, dest="drip_interval_seconds", help="seconds a byte of drip_fed_response")
    add("--late", type=float, dest="late_seconds", help="seconds of scenario callbacks_late")
    add("--openapi", action=switch, help="whether GET /openapi.yaml exists")
    add("--healthz", action=switch, help="whether GET /healthz exists")
    parser.set_defaults(**asdict(DEFAULTS))
    return parser


def _milliseconds(text: str) -> float:
    return float(text) / 1000


if __name__ == "__main__":
    sys.exit(main())
