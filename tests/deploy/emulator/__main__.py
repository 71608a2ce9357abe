"""The emulator as a process: it serves on the sockets that it inherits, and ends when its standard input closes.

    python -m tests.deploy.emulator <file descriptor for TLS> <file descriptor without TLS>

It runs in an environment of its own (`make emulator`). The variables are the emulator's own; `gaps` has one more.
"""

import asyncio
import os
import sys
import threading

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.app import app

from tests.deploy.emulator import gaps


def main(tls: str, plain: str) -> None:
    """Serve the same services with TLS and without, so that a policy that refuses requests without TLS can be tried."""
    if os.environ.get("FILL_GAPS") != "no":
        gaps.fill()
    config = Config()
    config.bind, config.insecure_bind = [f"fd://{tls}"], [f"fd://{plain}"]
    config.certfile, config.keyfile = os.environ["MINISTACK_SSL_CERT"], os.environ["MINISTACK_SSL_KEY"]
    config.keep_alive_timeout = 75
    threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(serve(app, config))


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # the functions' processes end with their pipes


if __name__ == "__main__":
    main(*sys.argv[1:])
