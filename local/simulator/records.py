"""The gateway's records: messages, their statuses and callbacks, and counts of requests."""

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID


def seeded(*parts: object) -> Random:
    """Return a random generator for these parts (seed, then purpose); the same parts give the same numbers."""
    return Random("/".join(str(part) for part in parts))  # noqa: S311 - to be repeatable is the point


@dataclass(slots=True)
class Callback:
    """A callback, and each attempt to deliver it: (epoch seconds, HTTP status or the error's name)."""

    kind: str
    body: Mapping[str, Any]
    tries: list[tuple[float, int | str]] = field(default_factory=list)


@dataclass(slots=True)
class SimulatedMessage:
    """A message to a handset (MT) or from one (MO). `number` counts each direction from 1, in order of acceptance."""

    id: str
    number: int
    direction: str
    scenario: str | None
    fields: Mapping[str, Any]
    status: str
    accepted_at: float = field(default_factory=time.time)
    history: list[tuple[float, str]] = field(default_factory=list)
    callbacks: list[Callback] = field(default_factory=list)
    revision: int = 0

    def details(self, echo_reference: bool) -> dict[str, Any]:
        """Return MessageDetails (the REST v2 page), with reference and encoding only if the record has them."""
        names = ["source", "destination", "content", "encoding", *(["reference"] if echo_reference else [])]
        known = {name: self.fields[name] for name in names if name in self.fields}
        return {"id": self.id, "direction": self.direction, **known, "status": self.status}

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "number": self.number,
            "direction": self.direction,
            "scenario": self.scenario,
            "fields": dict(self.fields),
            "accepted_at": timestamp(self.accepted_at),
            "status": self.status,
            "history": [{"at": timestamp(at), "status": status} for at, status in self.history],
            "callbacks": [
                {
                    "kind": callback.kind,
                    "body": dict(callback.body),
                    "tries": [{"at": timestamp(at), "response": response} for at, response in callback.tries],
                }
                for callback in self.callbacks
            ],
            "revision": self.revision,
        }


def timestamp(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class MessageRecords:
    """All messages, the least recently changed first. If there are more than `keep`, the first are forgotten.

    IDs depend only on the seed and the message's number, so the same order of messages gives the same IDs.
    """

    def __init__(self, keep: int, seed: int) -> None:
        self._keep = keep
        self._seed = seed
        self._lock = threading.Condition()
        self._messages: OrderedDict[str, SimulatedMessage] = OrderedDict()
        self._numbers: Counter[str] = Counter()
        self._revision = 0

    def random_for(self, message: SimulatedMessage) -> Random:
        """Return the random generator of a message; always the same for the same seed and number."""
        return seeded(self._seed, message.direction, message.number, "steps")

    def new(
        self, direction: str, fields: Mapping[str, Any], status: str, scenario: str | None = None
    ) -> SimulatedMessage:
        """Add a message, with a number and an ID."""
        with self._lock:
            self._numbers[direction] += 1
            number = self._numbers[direction]
            bits = seeded(self._seed, direction, number, "id").getrandbits(128)
            message = SimulatedMessage(str(UUID(int=bits, version=4)), number, direction, scenario, fields, status)
            message.history.append((message.accepted_at, status))
            self._messages[message.id] = message
            self._changed(message)
            while len(self._messages) > self._keep:
                self._messages.popitem(last=False)
            return message

    def get(self, message_id: str) -> SimulatedMessage | None:
        with self._lock:
            return self._messages.get(message_id)

    def knows(self, message: SimulatedMessage) -> bool:
        """Return False if the message was forgotten, as after a reset."""
        return self.get(message.id) is message

    def reached(self, message: SimulatedMessage, status: str) -> None:
        with self._lock:
            message.status = status
            message.history.append((time.time(), status))
            self._changed(message)

    def called_back(self, message: SimulatedMessage, callback: Callback) -> None:
        with self._lock:
            message.callbacks.append(callback)
            self._changed(message)

    def tried(self, message: SimulatedMessage, callback: Callback, result: int | str) -> None:
        with self._lock:
            callback.tries.append((time.time(), result))
            self._changed(message)

    def find(
        self, wanted: Mapping[str, str], since: int = 0, limit: int | None = None
    ) -> tuple[int, list[dict[str, Any]]]:
        """Return messages changed after revision `since`, least recently changed first, and the next `since`.

        `wanted`: values of direction, status, scenario or fields of the message.
        """
        with self._lock:
            chosen = [message for message in self._newer_than(since) if _matches(message, wanted)][:limit]
            complete = limit is None or len(chosen) < limit
            revision = self._revision if complete else chosen[-1].revision if chosen else since
            return revision, [message.as_dict() for message in chosen]

    def wait_for(self, wanted: Mapping[str, str], timeout_seconds: float) -> list[dict[str, Any]]:
        """Return messages as `find` does, as soon as there is one; none after the timeout."""
        with self._lock:
            self._lock.wait_for(
                lambda: any(_matches(each, wanted) for each in self._messages.values()), timeout_seconds
            )
            return [message.as_dict() for message in self._messages.values() if _matches(message, wanted)]

    def clear(self) -> None:
        with self._lock:
            self._messages.clear()
            self._numbers.clear()

    def _changed(self, message: SimulatedMessage) -> None:
        if message.id in self._messages:
            self._revision += 1
            message.revision = self._revision
            self._messages.move_to_end(message.id)
            self._lock.notify_all()

    def _newer_than(self, since: int) -> list[SimulatedMessage]:
        newer = []
        for message in reversed(self._messages.values()):
            if message.revision <= since:
                break
            newer.append(message)
        return newer[::-1]


def _matches(message: SimulatedMessage, wanted: Mapping[str, str]) -> bool:
    own = {"direction": message.direction, "status": message.status, "scenario": message.scenario}
    return all((own[name] if name in own else message.fields.get(name)) == value for name, value in wanted.items())


class RequestCounts:
    """Counts of every `POST /messages`, whatever its result."""

    def __init__(self, keep_arrivals: int) -> None:
        self._lock = threading.Lock()
        self._arrivals: deque[float] = deque(maxlen=keep_arrivals)
        self._taken = 0
        self._outcomes: Counter[str] = Counter()
        self._responses: Counter[str] = Counter()

    def count(self, arrived_at: float, outcome: str, status: int | None, taken: bool) -> None:
        """Count a POST. `status` None: the connection was closed without a response."""
        with self._lock:
            self._arrivals.append(arrived_at)
            self._taken += taken
            self._outcomes[outcome] += 1
            self._responses["none" if status is None else str(status)] += 1

    def as_dict(self) -> dict[str, Any]:
        with self._lock:
            return {
                "posts": self._outcomes.total(),
                "taken": self._taken,
                "outcomes": dict(self._outcomes),
                "responses": dict(self._responses),
            }

    def arrivals(self) -> list[float]:
        """Return the times of the POSTs (epoch seconds), in the order in which they were decided."""
        with self._lock:
            return list(self._arrivals)

    def clear(self) -> None:
        with self._lock:
            self._arrivals.clear()
            self._taken = 0
            self._outcomes.clear()
            self._responses.clear()
