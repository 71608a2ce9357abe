"""The gateway's side of the API: request in, response out, and the effects of a request.

Paths, responses and their sources: gateway-rest-v2.txt and the others in docs/gateway-simulator.md.
"""

import hmac
import json
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local.http_server import Ending, HttpRequest, HttpResponse, json_response
from local.simulator.callbacks import basic_authorization
from local.simulator.config import GatewayConfig
from local.simulator.deliveries import OPERATOR, Deliveries
from local.simulator.errors import RefusedError
from local.simulator.faults import FaultSwitches
from local.simulator.records import MessageRecords, RequestCounts, SimulatedMessage, seeded
from local.simulator.scenarios import SCENARIOS, Callbacks, Scenario, ScriptedResponse, scenario_for, steps_for
from local.simulator.submissions import Submission, read_submission

BASE_PATH = "/rest/sms/v2"
SERVICES_PATH = "/rest/services/v1"
SERVICES = ("https", "rest", "soap", "smpp", "restv2", "email2sms")
_ID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OPENAPI = Path(__file__).with_name("openapi.yaml")


class Engine:
    """A gateway without a network: `handle` serves a request; its effects happen in `deliveries`.

    Raise ValueError for an invalid callback URL.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.seed = seed = secrets.randbelow(2**32) if config.seed is None else config.seed
        self._authorization = basic_authorization(config.application, config.password).encode()
        self.switches = FaultSwitches()
        self.records = MessageRecords(config.keep_messages, seed)
        self.counts = RequestCounts(config.keep_messages)
        self.deliveries = Deliveries(config, self.records, self.switches)
        self._lock = threading.Lock()
        self._random = seeded(seed, "faults")
        self._refusals: Counter[tuple[str, str, str | None]] = Counter()
        self._routes: Mapping[tuple[str, str], Callable[[HttpRequest], HttpResponse]] = {
            ("POST", f"{BASE_PATH}/messages"): self._post_message,
            ("GET", f"{BASE_PATH}/messages"): self._get_message,
            ("GET", f"{BASE_PATH}/healthz"): self._healthz,
            ("GET", f"{BASE_PATH}/openapi.yaml"): self._openapi,
            ("GET", f"{SERVICES_PATH}/services"): self._services,
            ("GET", f"{SERVICES_PATH}/status"): self._service_status,
        }

    def handle(self, request: HttpRequest) -> HttpResponse:
        response = self._routed(request)
        return replace(response, delay_seconds=response.delay_seconds + self._response_delay_seconds())

    def state(self) -> dict[str, Any]:
        """Return the seed, the callback URLs (without credentials) and the faults."""
        urls = {kind: None if url is None else url.public for kind, url in self.deliveries.urls.items()}
        return {"seed": self.seed, "callback_urls": urls, "faults": self.faults()}

    def taken(self, since: int = 0, **wanted: str) -> list[dict[str, Any]]:
        """Return the accepted messages, one for each POST, even if its response was lost; as in GET /control/messages.

        `wanted`: values of any fields, such as reference or destination, or of status or scenario.
        """
        return self.records.find({"direction": "MT", **wanted}, since)[1]

    def requests(self) -> dict[str, Any]:
        """Return counts of POST /messages: posts, accepted, by scenario and by status."""
        return self.counts.as_dict()

    def arrivals(self) -> list[float]:
        """Return when each POST /messages came (epoch seconds)."""
        return sorted(self.counts.arrivals())

    def faults(self) -> dict[str, Any]:
        return self.switches.current.as_dict()

    def set_faults(self, **changes: Any) -> dict[str, Any]:
        """Change these fields of `faults.Faults`, and keep the others. ValueError names the error."""
        self.switches.set(changes)
        self._apply_faults()
        return self.faults()

    def clear_faults(self) -> dict[str, Any]:
        self.switches.clear()
        self._apply_faults()
        return self.faults()

    def set_callback_urls(self, status: str | None, reply: str | None) -> None:
        """Set the URLs for later callbacks, retries included. None: no callbacks of this kind."""
        self.deliveries.set_urls(status, reply)

    def send_reply(self, source: str, content: str, **fields: str) -> str:
        """Send a reply callback as if a handset had replied, and return the reply's ID.

        The fields are ReplyCallback's; `destination` and `operator` have defaults, and so has `reference` if `reply_to`
        is known.
        """
        replied_to = self.records.get(fields.get("reply_to", ""))
        reference = {} if replied_to is None else self.deliveries.reference_of(replied_to)
        defaults = {"source": source, "destination": self.config.source, "content": content, "operator": OPERATOR}
        return self.deliveries.reply({**defaults, **reference, **fields}).id

    def send_status(self, message_id: str, status: str, **fields: str) -> None:
        """Set a message's status and send its callback. Raise KeyError if there is no such message."""
        message = self.records.get(message_id)
        if message is None:
            raise KeyError("no message has this id")
        self.records.reached(message, status)
        self.deliveries.call_back(message, "status", {**self.deliveries.status_body(message, status), **fields})

    def reset(self) -> None:
        """Return to the state after the start, with the same seed; callback URLs stay."""
        self.switches.clear()
        # Records first, so that work under way schedules nothing new.
        self.records.clear()
        self.deliveries.clear()
        self.counts.clear()
        with self._lock:
            self._random = seeded(self.seed, "faults")
            self._refusals.clear()
        self._apply_faults()

    def _apply_faults(self) -> None:
        """Apply the immediate effects of changed faults."""
        if self.switches.current.callbacks != "held":
            self.deliveries.release_held()

    def _routed(self, request: HttpRequest) -> HttpResponse:
        route = self._routes.get((request.method, request.path), self._not_found)
        if self.switches.current.down is not None and request.path.startswith(BASE_PATH):
            if route == self._post_message:
                self.counts.count(time.time(), "down", None, taken=False)
            return HttpResponse(0, ending=Ending.NONE)
        try:
            return route(request)
        except RefusedError as error:
            return HttpResponse(error.status, error.body.encode(), headers=error.headers)

    def _response_delay_seconds(self) -> float:
        delay_seconds = self.switches.current.response_delay_seconds
        return self.config.response_delay_seconds if delay_seconds is None else delay_seconds

    def _authenticate(self, request: HttpRequest) -> None:
        scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
        given = f"{scheme.capitalize()} {token.strip()}".encode("latin-1", "replace")
        refused = self.switches.current.credentials_refused
        if refused or not hmac.compare_digest(given, self._authorization):
            raise RefusedError(401, "Unauthorized", headers=(("WWW-Authenticate", 'Basic realm="gateway"'),))

    # POST /messages

    def _post_message(self, request: HttpRequest) -> HttpResponse:
        arrived_at = time.time()
        try:
            self._authenticate(request)
            submission = read_submission(request, datetime.now(UTC))
        except RefusedError as error:
            self.counts.count(arrived_at, error.error, error.status, taken=False)
            raise
        scenario = self._scenario(submission)
        closed = scenario.response.ending is Ending.NONE
        message = self.records.new("MT", submission.fields, "accepted", scenario.name) if scenario.taken else None
        self.counts.count(arrived_at, scenario.name, None if closed else scenario.response.status, scenario.taken)
        if message is not None:
            self._begin(message, scenario, submission)
        return self._response(scenario.response, message)

    def _scenario(self, submission: Submission) -> Scenario:
        with self._lock:
            scenario = self.switches.take_scenario(self._random) or scenario_for(submission.destination)
            if scenario.times is None:
                return scenario
            refused = (scenario.name, submission.destination, submission.reference)
            if self._refusals[refused] < scenario.times:
                self._refusals[refused] += 1
                return scenario
            del self._refusals[refused]
            return SCENARIOS["received"]

    def _begin(self, message: SimulatedMessage, scenario: Scenario, submission: Submission) -> None:
        """Start the message's steps. A scheduled message is assumed to wait as queued."""
        config, scenario = self.config, self.switches.current.applied_to(scenario)
        random = self.records.random_for(message)
        steps = steps_for(scenario, random, config.status_step_seconds, config.late_seconds)
        if submission.scheduled is not None:
            self.records.reached(message, "queued")
            self.deliveries.follow(message, steps, max(0.0, submission.scheduled.timestamp() - time.time()))
        elif scenario.callbacks is Callbacks.EARLY:
            self.deliveries.take_now(message, steps)
        else:
            response_in_seconds = self._response_delay_seconds() + self._slow_seconds(scenario.response)
            self.deliveries.follow(message, steps, response_in_seconds)

    def _response(self, scripted: ScriptedResponse, message: SimulatedMessage | None) -> HttpResponse:
        body = scripted.body or ""
        if scripted.body is None and message is not None:
            body = json.dumps({"id": message.id, "status": "accepted", "detail": message.fields["destination"]})
        return HttpResponse(
            scripted.status,
            body.encode(),
            scripted.content_type,
            scripted.headers,
            scripted.ending,
            delay_seconds=self._slow_seconds(scripted),
            drip_seconds=self.config.drip_interval_seconds,
        )

    def _slow_seconds(self, scripted: ScriptedResponse) -> float:
        return self.config.slow_response_seconds if scripted.slow else 0.0

    # The other operations

    def _get_message(self, request: HttpRequest) -> HttpResponse:
        self._authenticate(request)
        message_id = request.query.get("id", [""])[0]
        if not message_id:
            raise RefusedError(400, "missing_attrib", "Missing a required attribute id")
        if not re.fullmatch(_ID, message_id):
            raise RefusedError(400, "invalid_attrib", "Invalid attribute value id")
        message = self.records.get(message_id)
        if message is None:
            raise RefusedError(404, "No message matched")
        return json_response(message.details(self.config.echo_reference))

    def _healthz(self, _: HttpRequest) -> HttpResponse:
        return self._switchable(self.switches.current.healthz, self.config.healthz, HttpResponse(200))

    def _openapi(self, _: HttpRequest) -> HttpResponse:
        document = HttpResponse(200, _OPENAPI.read_bytes(), "application/yaml")
        return self._switchable(self.switches.current.openapi, self.config.openapi, document)

    def _not_found(self, _: HttpRequest | None = None) -> HttpResponse:
        return json_response({"message": "Not Found"}, 404)

    def _switchable(self, switch: str | None, configured: bool, response: HttpResponse) -> HttpResponse:
        state = switch or ("on" if configured else "off")
        if state == "503":
            raise RefusedError(503, "Service Unavailable")
        return response if state == "on" else self._not_found()

    # The Health Monitoring API is a separate service: no authentication, and it stays up when the gateway is down

    def _services(self, _: HttpRequest) -> HttpResponse:
        return json_response({"services": SERVICES})

    def _service_status(self, request: HttpRequest) -> HttpResponse:
        state = "available" if self.switches.current.down is None else "unavailable"
        names = request.query.get("service", [])
        statuses = {name: {"status": state if name in SERVICES else "unknown"} for name in names}
        return json_response({"services": statuses})
