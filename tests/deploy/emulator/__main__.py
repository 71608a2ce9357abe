"""The emulator as a process: it prints its ports, with TLS and without, and ends when its standard input closes.

    python -m tests.deploy.emulator

It runs in Lambda's Python (`make emulator`). The variables are the emulator's own; `gaps` has one more.
"""

import asyncio
import os
import socket
import sys
import threading

from hypercorn.asyncio import serve
from hypercorn.config import Config


def main() -> None:
    """Serve with and without TLS, to test policies that refuse requests without TLS."""
    tls, plain = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    os.environ["GATEWAY_PORT"] = str(tls.getsockname()[1])
    sys.stdout.write(f"{tls.getsockname()[1]} {plain.getsockname()[1]}\n")
    sys.stdout.flush()
    os.dup2(2, 1)  # its other output has no reader
    from ministack.app import app  # the import reads the variables

    from tests.deploy.emulator import gaps

    if os.environ.get("FILL_GAPS") != "no":
        gaps.fill()
    config = Config()
    config.bind, config.insecure_bind = [f"fd://{tls.detach()}"], [f"fd://{plain.detach()}"]
    config.certfile, config.keyfile = os.environ["MINISTACK_SSL_CERT"], os.environ["MINISTACK_SSL_KEY"]
    config.keep_alive_timeout = 75
    threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(serve(app, config))


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # the functions' processes end when their pipes close


if __name__ == "__main__":
    main()
