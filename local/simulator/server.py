"""The simulator as an object, to start, control and query.

with GatewaySimulator(GatewayConfig(seed=1)) as gateway:
    requests.post(gateway.url + "/messages", …)
    gateway.taken(reference="order-1")
"""

import threading
from typing import Any, Self

from local.http_server import HttpListener, HttpRules, bound_socket
from local.simulator.config import LOOPBACK, GatewayConfig
from local.simulator.control import CONTROL_PATH, Control
from local.simulator.engine import BASE_PATH, SERVICES_PATH, Engine

__all__ = ["GatewayConfig", "GatewaySimulator"]


class GatewaySimulator(Engine):
    """A gateway and its control endpoint, on a port each. Both are bound at once, and served from `start` to `stop`.

    `ca_certificate`: of the authority to trust (PEM), if it uses TLS. Raises OSError if a port is taken. Can be started
    once.
    """

    def __init__(self, config: GatewayConfig | None = None) -> None:
        super().__init__(config or GatewayConfig())
        tls, self.ca_certificate = None, ""
        if self.config.tls_hosts:
            from local.simulator.certificates import server_context  # noqa: PLC0415 - without TLS Python alone is enough

            tls, self.ca_certificate = server_context(self.config.tls_hosts)
        gateway_socket = bound_socket(self.config.bind, self.config.port)
        self._gateway = HttpListener(self.handle, gateway_socket, HttpRules(tls=tls))
        try:
            self._control = HttpListener(Control(self).handle, bound_socket(LOOPBACK, self.config.control_port))
        except OSError:
            self._gateway.close()
            raise
        self._switching = threading.Lock()

    @property
    def url(self) -> str:
        """Return the base URL of the API, to use as the gateway's base URL."""
        return f"{self._origin}{BASE_PATH}"

    @property
    def services_url(self) -> str:
        """Return the base URL of the Health Monitoring API."""
        return f"{self._origin}{SERVICES_PATH}"

    @property
    def control_url(self) -> str:
        return f"http://{LOOPBACK}:{self._control.port}{CONTROL_PATH}"

    @property
    def _origin(self) -> str:
        scheme = "https" if self.config.tls_hosts else "http"
        return f"{scheme}://{self.config.bind}:{self._gateway.port}"

    def start(self) -> Self:
        self.deliveries.start()
        self._gateway.open()
        self._control.open()
        return self

    def stop(self) -> None:
        """End every connection and drop waiting actions."""
        self._gateway.close()
        self._control.close()
        self.deliveries.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def state(self) -> dict[str, Any]:
        """Return the engine's state, with the addresses."""
        return {"url": self.url, "services_url": self.services_url, **super().state()}

    def _apply_faults(self) -> None:
        with self._switching:
            if self.switches.current.down == "refused":
                self._gateway.refuse()
            else:
                self._gateway.open()
        super()._apply_faults()
