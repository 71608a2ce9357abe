"""The simulator as an object: start it, steer it, ask it what it took.

with GatewaySimulator(GatewayConfig(seed=1)) as gateway:
    requests.post(gateway.url + "/messages", …)
    gateway.taken(reference="order-1")
"""

import secrets
import threading
from typing import Any, Self

from local.http_server import HttpListener
from local.simulator.config import LOOPBACK, GatewayConfig
from local.simulator.control import CONTROL_PATH, Control
from local.simulator.engine import BASE_PATH, SERVICES_PATH, Engine

__all__ = ["GatewayConfig", "GatewaySimulator"]


class GatewaySimulator:
    """A gateway on its own port and its control endpoint on another, both bound at once, served from `start` to `stop`.

    Raises OSError if a port is taken and ValueError if a callback URL is none. Can be started once.
    """

    def __init__(self, config: GatewayConfig | None = None) -> None:
        self.config = config or GatewayConfig()
        self.seed = secrets.randbelow(2**32) if self.config.seed is None else self.config.seed
        self._engine = Engine(self.config, self.seed)
        self._gateway = HttpListener(self._engine.handle, self.config.bind, self.config.port)
        try:
            self._control = HttpListener(Control(self).handle, LOOPBACK, self.config.control_port)
        except OSError:
            self._gateway.close()
            raise
        self.records = self._engine.records
        self._switching = threading.Lock()

    @property
    def url(self) -> str:
        """Base URL of the API, to be used as the gateway's base URL."""
        return f"{self._origin}{BASE_PATH}"

    @property
    def services_url(self) -> str:
        """Base URL of the Health Monitoring API."""
        return f"{self._origin}{SERVICES_PATH}"

    @property
    def control_url(self) -> str:
        return f"http://{LOOPBACK}:{self._control.port}{CONTROL_PATH}"

    @property
    def _origin(self) -> str:
        return f"http://{self.config.bind}:{self._gateway.port}"

    def start(self) -> Self:
        self._engine.deliveries.start()
        self._gateway.open()
        self._control.open()
        return self

    def stop(self) -> None:
        """Ends every connection and drops what waits."""
        self._gateway.close()
        self._control.close()
        self._engine.deliveries.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def state(self) -> dict[str, Any]:
        """Addresses, seed, callback URLs (without credentials), faults."""
        urls = self._engine.deliveries.urls
        return {
            "url": self.url,
            "services_url": self.services_url,
            "seed": self.seed,
            "callback_urls": {kind: None if url is None else url.public for kind, url in urls.items()},
            "faults": self.faults(),
        }

    def taken(self, since: int = 0, **wanted: str) -> list[dict[str, Any]]:
        """Messages that the gateway took, each POST once, also if its answer was lost; as in GET /control/messages.

        `wanted`: equal values of any field, such as reference or destination, or of status or scenario.
        """
        return self.records.find({"direction": "MT", **wanted}, since)[1]

    def requests(self) -> dict[str, Any]:
        """Counts of POST /messages: posts, taken, and both by outcome and by answer."""
        return self._engine.counts.as_dict()

    def arrivals(self) -> list[float]:
        """When each POST /messages came, unix seconds."""
        return sorted(self._engine.counts.arrivals())

    def faults(self) -> dict[str, Any]:
        return self._engine.switches.current.as_dict()

    def set_faults(self, **changes: Any) -> dict[str, Any]:
        """Changes these fields of `faults.Faults`, leaves the others. ValueError names what is wrong."""
        self._engine.switches.set(changes)
        return self._apply_faults()

    def clear_faults(self) -> dict[str, Any]:
        self._engine.switches.clear()
        return self._apply_faults()

    def set_callback_urls(self, status: str | None, reply: str | None) -> None:
        """From now on; retries go there too. None: no callbacks of this kind."""
        self._engine.deliveries.set_urls(status, reply)

    def send_reply(self, source: str, content: str, **fields: str) -> str:
        """A reply callback as if a handset had typed it; the id of the reply.

        Fields as in ReplyCallback; `destination` and `operator` have defaults, `reference` too if `reply_to` is known.
        """
        return self._engine.reply(source, content, fields)

    def send_status(self, message_id: str, status: str, **fields: str) -> None:
        """The message reaches this status, and its callback is sent. KeyError if there is no such message."""
        self._engine.report(message_id, status, fields)

    def reset(self) -> None:
        """As just started, with the same seed; callback URLs stay."""
        self._engine.reset()
        self._apply_faults()

    def _apply_faults(self) -> dict[str, Any]:
        with self._switching:
            faults = self._engine.switches.current
            if faults.down == "refused":
                self._gateway.refuse()
            else:
                self._gateway.open()
        if faults.callbacks != "held":
            self._engine.deliveries.release_held()
        return faults.as_dict()
