"""`python -m local.simulator`: the simulator as a program. `--numbers` prints the table of magic numbers."""

import argparse
import signal
import sys
import threading

from local.simulator.config import GatewayConfig
from local.simulator.scenarios import numbers_table
from local.simulator.server import GatewaySimulator

DEFAULT_PORT = 8025
DEFAULT_CONTROL_PORT = 8026


def main(arguments: list[str] | None = None) -> int:
    """Serves until Ctrl-C or SIGTERM. 0: ended as asked; 1: could not start."""
    options = _parser().parse_args(arguments)
    if options.numbers:
        print(numbers_table())
        return 0
    try:
        simulator = GatewaySimulator(_config(options))
    except OSError as error:
        reason = error.strerror or error
        print(f"Cannot listen on port {options.port} or {options.control_port}: {reason}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
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


def _config(options: argparse.Namespace) -> GatewayConfig:
    return GatewayConfig(
        application=options.application,
        password=options.password,
        bind=options.bind,
        port=options.port,
        control_port=options.control_port,
        status_callback_url=options.status_url,
        reply_callback_url=options.reply_url,
        callback_auth=options.callback_auth,
        retry_interval_seconds=options.retry_interval,
        retry_tries=options.retry_tries,
        id_key=options.id_key,
        echo_reference=options.reference,
        seed=options.seed,
        answer_delay_seconds=options.answer_delay / 1000,
        status_step_seconds=options.status_step,
        slow_answer_seconds=options.slow_answer,
        drip_interval_seconds=options.drip,
        late_seconds=options.late,
        openapi=options.openapi,
        healthz=options.healthz,
    )


def _parser() -> argparse.ArgumentParser:
    defaults = GatewayConfig()
    parser = argparse.ArgumentParser(
        prog="python -m local.simulator",
        description="An SMS gateway for one machine: REST APIv2, callbacks, and every way to misbehave.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("--numbers", action="store_true", help="print the magic destination numbers and end")
    add("--bind", default=defaults.bind, help="address of the gateway; the control endpoint stays on loopback")
    add("--port", type=int, default=DEFAULT_PORT, help="port of the gateway; 0 takes a free one")
    add("--control-port", type=int, default=DEFAULT_CONTROL_PORT, help="port of the control endpoint; 0 as above")
    add("--application", default=defaults.application, help="application name, the user of Basic authentication")
    add("--password", default=defaults.password, help="its password")
    add("--status-url", help="status callback URL; may hold user:password@, URL-encoded")
    add("--reply-url", help="reply callback URL, likewise")
    add(
        "--callback-auth",
        choices=("preemptive", "challenge"),
        default=defaults.callback_auth,
        help="send callback credentials at once, or only after a 401 with WWW-Authenticate",
    )
    add("--retry-interval", type=float, default=defaults.retry_interval_seconds, help="seconds between callback tries")
    add("--retry-tries", type=int, default=defaults.retry_tries, help="tries of a callback")
    add("--id-key", choices=("message_id", "id"), default=defaults.id_key, help="key of the id in status callbacks")
    add("--reference", action=switch, default=defaults.echo_reference, help="echo the reference")
    add("--seed", type=int, help="repeats ids and every other random choice; random if not given")
    add("--answer-delay", type=float, default=0, help="milliseconds before each answer")
    add("--status-step", type=float, default=defaults.status_step_seconds, help="seconds from one status to the next")
    add("--slow-answer", type=float, default=defaults.slow_answer_seconds, help="seconds of scenario slow_answer")
    add("--drip", type=float, default=defaults.drip_interval_seconds, help="seconds a byte of drip_fed_answer")
    add("--late", type=float, default=defaults.late_seconds, help="seconds of scenario callbacks_late")
    add("--openapi", action=switch, default=defaults.openapi, help="whether GET /openapi.yaml exists")
    add("--healthz", action=switch, default=defaults.healthz, help="whether GET /healthz exists")
    return parser


if __name__ == "__main__":
    sys.exit(main())
