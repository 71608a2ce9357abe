"""The program that plays AWS's services: moto's server in a process of its own.

A process of its own has fresh state at each start, leaves the second core to the runner, and takes everything moto
knows with it when it ends. It serves on the listening socket it inherits (so that the parent has found a port in use
before anything started) and ends when its standard input closes, so that it never outlives its parent, however that
ends.

    python -m local.aws.moto_server <file descriptor of the listening socket>
"""

import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import cache
from typing import Any

import jsonpath_ng.ext
from moto.dynamodb.models.table import Table
from moto.moto_server import werkzeug_app
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.sqs.models import Queue
from werkzeug.serving import make_server

from local.guard import refusal_of_request


def serve(listening_fd: int) -> None:
    """Serve moto on an inherited listening socket until standard input closes."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line per request; a crash inside moto still shows
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with socket.socket(fileno=os.dup(listening_fd)) as listener:
        host, port = listener.getsockname()[:2]
    for source in (Queue, Table):
        # The runner feeds the functions; moto would itself, in Docker, as soon as a mapping is enabled.
        source.lambda_event_source_mappings = property(lambda _: {}, lambda _self, _mappings: None)
    werkzeug_app.DISABLE_GLOBAL_CORS = True  # or every page in a browser on this machine could read the secrets
    os.environ["MOTO_PORT"] = str(port)  # moto writes it into some of the addresses it hands out
    dispatcher = DomainDispatcherApplication(create_backend_app)
    # It lists moto's own folder to find out which service a host is, for every request: a fifth of moto's time.
    dispatcher.get_backend_for_host = cache(dispatcher.get_backend_for_host)
    # It parses the same eight paths again for every event and target: a sixth.
    jsonpath_ng.ext.parse = cache(jsonpath_ng.ext.parse)  # type: ignore[attr-defined]
    one_at_a_time = threading.Lock()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if refused := _refusal(environ, host):
            start_response("403 Forbidden", [("Content-Type", "application/json")])
            return [json.dumps(refused).encode()]
        # A conditional write is one step in DynamoDB. In moto it is several, and another thread can see the item half
        # made: the second of two equal messages would find a record without a state.
        is_dynamodb = environ.get("HTTP_X_AMZ_TARGET", "").startswith("DynamoDB")
        with one_at_a_time if is_dynamodb else nullcontext():
            response: Iterable[bytes] = dispatcher(environ, start_response)
            return response

    server = make_server(host, port, application, threaded=True, request_handler=MotoRequestHandler, fd=listening_fd)
    threading.Thread(target=_stop_when_parent_is_gone, daemon=True).start()
    server.serve_forever()


def _refusal(environ: dict[str, Any], address: str) -> dict[str, str] | None:
    """As AWS words one. It requires a signature too, and no page can send that header to another site by itself."""
    if why := refusal_of_request(lambda name: environ.get(f"HTTP_{name.upper().replace('-', '_')}"), address):
        return {"__type": "AccessDenied", "message": why}
    if not environ.get("HTTP_AUTHORIZATION"):
        return {"__type": "MissingAuthenticationToken", "message": "Authorization: is missing. Sign the request."}
    return None


def _stop_when_parent_is_gone() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # requests may still be long polling, with no client left


if __name__ == "__main__":
    serve(int(sys.argv[1]))
