"""How the transport keeps, replaces and closes its connections, and handles arbitrary responses."""

from __future__ import annotations

import gc
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from optus_sms.gateway.api import Outcome, classify
from optus_sms.gateway.transport import MAX_BODY_BYTES, REUSE_SECONDS, Exchange, Transport
from tests.support.fault_server import PATIENCE_SECONDS, FaultServer, Peer, Script, client_tls, server_tls

AMPLE, SHORT = 15.0, 0.5
REQUEST: Final = b'{"destination":"+61400000001","content":"hello"}'
SCHEMES = pytest.mark.parametrize("scheme", ["http", "https"])


def answer(gateway_id: str, *headers: bytes) -> bytes:
    body = json.dumps({"id": gateway_id}).encode()
    return b"\r\n".join([b"HTTP/1.1 202 Accepted", b"Content-Length: %d" % len(body), *headers, b"", body])


def serve(peer: Peer) -> None:
    """Respond to every request of the connection with IDs g-1, g-2 …"""
    for number in count(1):
        peer.read_request()
        peer.send(answer(f"g-{number}"))


@contextmanager
def serving(scheme: str, *scripts: Script, tls_delay: float = 0.0) -> Iterator[tuple[FaultServer, Transport]]:
    client = Transport(tls=client_tls())
    with FaultServer(*scripts, tls=server_tls() if scheme == "https" else None, tls_delay=tls_delay) as server:
        try:
            yield server, client
        finally:
            client.close()


def post(client: Transport, url: str, *, seconds: float = AMPLE, body: bytes = REQUEST, **more: Any) -> Exchange:
    return client.exchange("POST", url, headers={"Authorization": "Basic our-own"}, body=body, seconds=seconds, **more)


def outcome(answered: Exchange) -> Outcome:
    return classify(answered, now=time.time()).outcome


def gateway_id(answered: Exchange) -> str | None:
    return classify(answered, now=time.time()).gateway_id


class FrozenClock:
    """Stands in for the transport's `time` module; moves only when told."""

    def __init__(self) -> None:
        self.wall, self.steady = time.time(), time.monotonic()

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FrozenClock:
    frozen = FrozenClock()
    monkeypatch.setattr("optus_sms.gateway.transport.time", frozen)
    return frozen


# Connections that are used again


@SCHEMES
def test_posts_in_a_row_share_one_connection_and_one_handshake(scheme: str) -> None:
    with serving(scheme, serve) as (server, client):
        answers = [post(client, server.url) for _ in range(5)]
        assert [gateway_id(answered) for answered in answers] == ["g-1", "g-2", "g-3", "g-4", "g-5"]
        assert len(server.connections) == 1
        assert server.complete_requests == 5


@SCHEMES
@pytest.mark.parametrize(
    ("wall", "steady", "connections"),
    [
        pytest.param(0, 0, 1, id="at once"),
        pytest.param(REUSE_SECONDS - 0.1, REUSE_SECONDS - 0.1, 1, id="seconds later"),
        pytest.param(REUSE_SECONDS + 0.1, REUSE_SECONDS + 0.1, 2, id="later"),
        pytest.param(REUSE_SECONDS + 0.1, 0, 2, id="thawed: only the wall clock went on"),
        pytest.param(0, REUSE_SECONDS + 0.1, 2, id="the wall clock was set back"),
        pytest.param(-REUSE_SECONDS - 0.1, 0, 2, id="the wall clock is not to be trusted"),
    ],
)
def test_a_connection_idle_for_long_is_replaced(
    scheme: str, wall: float, steady: float, connections: int, clock: FrozenClock
) -> None:
    with serving(scheme, serve) as (server, client):
        assert outcome(post(client, server.url)) is Outcome.ACCEPTED
        clock.wall += wall
        clock.steady += steady
        assert outcome(post(client, server.url)) is Outcome.ACCEPTED
        assert len(server.connections) == connections
        assert server.begun_requests == 2


@SCHEMES
@pytest.mark.parametrize("end", [Peer.fin, Peer.reset], ids=["FIN", "RST"])
def test_a_connection_the_server_closed_is_replaced_without_loss(scheme: str, end: Callable[[Peer], None]) -> None:
    ended = threading.Event()

    def answer_once(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer("g-1"))
        answered.wait(PATIENCE_SECONDS)
        end(peer)
        ended.set()

    answered = threading.Event()
    with serving(scheme, answer_once, serve) as (server, client):
        assert outcome(post(client, server.url)) is Outcome.ACCEPTED
        answered.set()
        assert ended.wait(PATIENCE_SECONDS)
        assert outcome(post(client, server.url)) is Outcome.ACCEPTED
        assert [connection.complete_requests for connection in server.connections] == [1, 1]


@SCHEMES
@pytest.mark.parametrize("read", [Peer.wait_for_request, Peer.read_request], ids=["unread", "read"])
@pytest.mark.parametrize(("end", "seconds"), [(Peer.fin, AMPLE), (Peer.reset, AMPLE), (Peer.wait_until_closed, SHORT)])
def test_a_connection_that_died_unseen_gives_unknown_and_no_second_request(
    scheme: str, read: Callable[[Peer], Any], end: Callable[[Peer], None], seconds: float
) -> None:
    """The server can have read the request, so there is no retry on a new connection, as in many HTTP libraries."""

    def answer_once_then_forget(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer("g-1"))
        read(peer)
        end(peer)

    with serving(scheme, answer_once_then_forget, serve) as (server, client):
        assert outcome(post(client, server.url)) is Outcome.ACCEPTED
        assert outcome(post(client, server.url, seconds=seconds)) is Outcome.UNKNOWN
        assert server.wait_until_closed()
        assert len(server.connections) == 1
        assert outcome(post(client, server.url)) is Outcome.ACCEPTED


@SCHEMES
def test_an_answer_after_an_interim_one_does_not_meet_the_next_request(scheme: str) -> None:
    def early_hints(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        peer.drip(answer("g-1"), pause=0.001)
        peer.read_request()
        peer.send(answer("g-2"))

    with serving(scheme, early_hints) as (server, client):
        assert [gateway_id(post(client, server.url)) for _ in range(2)] == ["g-1", "g-2"]


@SCHEMES
@pytest.mark.parametrize("at_once", [True, False], ids=["with the answer", "after the answer"])
def test_an_answer_that_nobody_asked_for_does_not_meet_the_next_request(scheme: str, at_once: bool) -> None:
    answered, strayed = threading.Event(), threading.Event()

    def stray(peer: Peer) -> None:
        peer.read_request()
        if at_once:
            peer.send(answer("g-1") + answer("g-stray"))
        else:
            peer.send(answer("g-1"))
            answered.wait(PATIENCE_SECONDS)
            peer.send(answer("g-stray"))
        strayed.set()
        peer.read_request()
        peer.send(answer("g-2"))

    with serving(scheme, stray, serve) as (server, client):
        assert gateway_id(post(client, server.url)) == "g-1"
        answered.set()
        assert strayed.wait(PATIENCE_SECONDS)
        assert gateway_id(post(client, server.url)) in ("g-1", "g-2")
        assert server.begun_requests == 2


@SCHEMES
def test_a_body_that_was_not_read_whole_ends_its_connection(scheme: str) -> None:
    def too_much(peer: Peer) -> None:
        peer.read_request()
        size = 2 * MAX_BODY_BYTES
        peer.send(b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))

    with serving(scheme, too_much, serve) as (server, client):
        assert post(client, server.url).failure == "body_too_large"
        assert server.wait_until_closed()
        assert gateway_id(post(client, server.url)) == "g-1"


@SCHEMES
def test_threads_share_a_transport_and_each_gets_its_own_answer(scheme: str) -> None:
    def echo(peer: Peer) -> None:
        while True:
            _, _, body = peer.read_request().partition(b"\r\n\r\n")
            peer.send(answer(json.loads(body)["reference"]))

    threads, posts = 16, 160
    with serving(scheme, echo) as (server, client), ThreadPoolExecutor(threads) as pool:
        references = [f"ref-{number}" for number in range(posts)]
        bodies = [json.dumps({"reference": reference}).encode() for reference in references]
        answers = list(pool.map(lambda body: post(client, server.url, body=body), bodies))
        assert [gateway_id(answered) for answered in answers] == references
        assert server.complete_requests == server.begun_requests == posts
        assert len(server.connections) <= threads


@SCHEMES
def test_more_threads_than_kept_connections_lose_nothing(scheme: str) -> None:
    with FaultServer(serve, tls=server_tls() if scheme == "https" else None) as server:
        client = Transport(tls=client_tls(), connections=2)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: post(client, server.url), range(40)))
        assert all(outcome(answered) is Outcome.ACCEPTED for answered in answers)
        assert server.complete_requests == server.begun_requests == 40
        client.close()
        assert server.wait_until_closed()


def test_one_tls_context_serves_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading the roots takes tens of milliseconds, and requests alone does it for each connection."""
    loaded: list[object] = []
    load = ssl.SSLContext.load_verify_locations

    def counting(self: ssl.SSLContext, *args: Any, **kwargs: Any) -> None:
        loaded.append(self)
        load(self, *args, **kwargs)

    def answer_and_close(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer("g-1", b"Connection: close"))

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", counting)
    client = Transport()
    assert len(loaded) == 1
    with serving("https", answer_and_close) as (server, trusting), FaultServer(serve, tls=server_tls()) as other:
        loaded.clear()
        for url in [server.url, other.url, server.url]:
            assert outcome(post(trusting, url)) is Outcome.ACCEPTED
        assert len(server.connections) == 2
        assert loaded == []
        trusting.close()
    client.close()


@SCHEMES
def test_cookies_are_not_sent_back(scheme: str) -> None:
    def with_cookie(peer: Peer) -> None:
        while True:
            peer.read_request()
            peer.send(answer("g-1", b"Set-Cookie: session=1; Path=/"))

    with serving(scheme, with_cookie) as (server, client):
        for _ in range(2):
            assert outcome(post(client, server.url)) is Outcome.ACCEPTED
        assert server.complete_requests == 2
        assert b"cookie" not in bytes(server.connections[0].received).lower()


# The moment of the first byte


@SCHEMES
@pytest.mark.parametrize("start_within", [0.0, -1.0])
def test_after_its_time_nothing_is_handed_over(scheme: str, start_within: float) -> None:
    with serving(scheme, serve) as (server, client):
        outcome = classify(post(client, server.url, start_within=start_within), now=time.time())
        assert (outcome.outcome, outcome.reason) == (Outcome.NOT_SENT, "too_late")
        assert server.wait_until_closed()
        assert [bytes(connection.received) for connection in server.connections] == [b""]


@SCHEMES
def test_nothing_is_handed_over_before_the_caller_allows_it(scheme: str) -> None:
    """It is asked once the connection is open, once for an exchange, and the next exchange is as usual."""
    asked: list[int] = []
    requests: list[bytes] = []

    def listen(peer: Peer) -> None:
        requests.append(peer.read_request())
        peer.send(answer("g-1"))

    def may_start(allowed: bool) -> bool:
        asked.append(len(requests))
        return allowed

    with serving(scheme, lambda _peer: None, listen) as (server, client):
        refused = classify(post(client, server.url, may_start=lambda: may_start(False)), now=time.time())
        accepted = classify(post(client, server.url, may_start=lambda: may_start(True)), now=time.time())
    assert (refused.outcome, refused.reason, refused.stop) == (Outcome.NOT_SENT, "not_allowed", None)
    assert (accepted.outcome, asked, len(requests)) == (Outcome.ACCEPTED, [0, 0], 1)


@SCHEMES
def test_after_its_time_nothing_is_handed_over_on_a_kept_connection_either(scheme: str) -> None:
    with serving(scheme, serve) as (server, client):
        assert outcome(post(client, server.url)) is Outcome.ACCEPTED
        assert post(client, server.url, start_within=-1.0).failure == "too_late"
        assert server.wait_until_closed()
        assert server.begun_requests == 1


@SCHEMES
def test_time_spent_on_connecting_counts(scheme: str, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo

    def slow(*args: Any, **kwargs: Any) -> Any:
        clock.steady += 1.0
        return look_up(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with serving(scheme, serve) as (server, client):
        assert post(client, server.url, start_within=0.9) == Exchange(
            handed_over=False, failure="too_late", seconds=1.0
        )
        assert outcome(post(client, server.url, start_within=1.1)) is Outcome.ACCEPTED
        assert server.begun_requests == 1


@SCHEMES
def test_a_server_that_takes_the_request_a_little_at_a_time_is_left_at_the_deadline(scheme: str) -> None:
    with serving(scheme, lambda peer: peer.read_slowly(1024, pause=0.01)) as (server, client):
        answered = post(client, server.url, seconds=SHORT, body=bytes(16_000_000))
        assert (outcome(answered), answered.failure) == (Outcome.UNKNOWN, "timed_out")
        assert server.begun_requests == 1


# A name with several addresses


@SCHEMES
@pytest.mark.parametrize("first", ["refused", "silent", "of no known family"])
def test_a_dead_first_address_leaves_time_for_the_next(
    scheme: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(scheme, serve, tls_delay=0.1) as (server, client), dead_address(first) as dead:
        alive = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [dead, alive])
        assert outcome(post(client, server.url, seconds=4.0)) is Outcome.ACCEPTED
        assert server.begun_requests == 1


@SCHEMES
@pytest.mark.parametrize("kind", ["refused", "silent", "of no known family"])
def test_if_every_address_is_dead_nothing_was_sent(scheme: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with dead_address(kind) as dead, serving(scheme, serve) as (server, client):
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [dead, dead])
        answered = post(client, server.url, seconds=SHORT)
        assert (answered.handed_over, outcome(answered)) == (False, Outcome.NOT_SENT)
        assert server.connections == []


def test_a_name_without_addresses_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    client = Transport(tls=client_tls())
    assert outcome(post(client, "https://gateway.example/messages")) is Outcome.NOT_SENT
    client.close()


@contextmanager
def dead_address(kind: str) -> Iterator[tuple[Any, ...]]:
    """What getaddrinfo would give for an address that refuses, stays silent, or has a family this machine lacks."""
    family = 9999 if kind == "of no known family" else socket.AF_INET
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.socket() for _ in range(4)]  # they fill the listener's queue, so that the next SYN gets no answer
    try:
        if kind == "silent":
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
        address = listener.getsockname()
        if kind == "refused":
            listener.close()
        yield family, socket.SOCK_STREAM, 6, "", address
    finally:
        for sock in [*waiting, listener]:
            sock.close()


# Nothing is left behind


@SCHEMES
@pytest.mark.parametrize(
    ("data", "failure"),
    [
        pytest.param(b"", "timed_out", id="silence"),
        pytest.param(b"220 mail.example ESMTP\r\n", "not_http", id="no HTTP"),
        pytest.param(b"HTTP/1.1 202 OK\r\nContent-Length: 5, 6\r\n\r\n", "InvalidHeader", id="two lengths"),
        pytest.param(b"HTTP/1.1 202 OK\r\nContent-Length: 5\r\n\r\n", "timed_out", id="no body"),
        pytest.param(b"HTTP/1.1 202 OK\r\n" + b"A: b\r\n" * 200, "not_http", id="too many headers"),
        pytest.param(b"HTTP/1.1 202 OK\r\n\r\n" + bytes(MAX_BODY_BYTES + 9), "body_too_large", id="too much"),
        pytest.param(
            b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "cut_short", id="nonsense for a chunk"
        ),
        pytest.param(b"HTTP/1.1 302 OK\r\nLocation: http://[\r\n\r\n", "timed_out", id="a redirect nowhere"),
    ],
)
def test_a_failed_exchange_closes_its_connection_by_itself(scheme: str, data: bytes, failure: str) -> None:
    """Without waiting for the garbage collector."""

    def answer_and_stay(peer: Peer) -> None:
        peer.read_request()
        peer.send(data)

    gc.disable()
    try:
        with serving(scheme, answer_and_stay) as (server, client):
            assert post(client, server.url, seconds=SHORT if failure == "timed_out" else AMPLE).failure == failure
            assert server.wait_until_closed()
            assert server.open_connections == 0
    finally:
        gc.enable()


@SCHEMES
def test_close_ends_the_connections_that_wait(scheme: str) -> None:
    with serving(scheme, serve) as (server, client):
        assert outcome(post(client, server.url)) is Outcome.ACCEPTED
        assert server.open_connections == 1
        client.close()
        assert server.wait_until_closed()


@SCHEMES
def test_logs_never_quote_the_request(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not even if the response's broken headers quote it."""

    def quote(peer: Peer) -> None:
        quoted = peer.read_request().replace(b"\r\n\r\n", b"\r\n")
        peer.send(b"HTTP/1.1 502 Bad Gateway\r\nin your request\r\n" + quoted + b"\r\n\r\n")
        peer.fin()

    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", logger="urllib3")  # a function's logger() silences it; the transport must not need that
    with serving(scheme, quote) as (server, client):
        assert post(client, server.url).status == 502
    assert "urllib3" in {record.name.split(".")[0] for record in caplog.records}
    for secret in ("hello", "61400000001", "our-own"):
        assert secret not in caplog.text


# Never raises, whatever comes


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("", {}),
        ("messages", {}),
        ("ftp://127.0.0.1/messages", {}),
        ("http://", {}),
        ("http://[::1/messages", {}),
        ("http://127.0.0.1:99999/messages", {}),
        ("http://127.0.0.1:1/messages", {"X": "a\r\nb"}),
        ("http://127.0.0.1:1/messages", {"X": "\u20ac"}),
        ("http://127.0.0.1:1/messages", {"": "x"}),
    ],
)
def test_a_request_that_cannot_be_made_is_not_sent(url: str, headers: dict[str, str]) -> None:
    client = Transport(tls=client_tls())
    answered = client.exchange("POST", url, headers=headers, body=REQUEST, seconds=AMPLE)
    client.close()
    assert (answered.handed_over, outcome(answered)) == (False, Outcome.NOT_SENT)
    assert answered.failure


# Interim responses, then the status line of a success.
_SUCCESS: Final = re.compile(
    rb"(HTTP/1\.\d 1(?!01)\d\d([ \r\n][^\n]*)?\n([^\r\n][^\n]*\n)*\r?\n)*HTTP/1\.\d 20[012]([ \r\n]|\Z)"
)
_PIECES: Final = st.sampled_from(
    [
        b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/2 ", b"HTTP/", b"202", b"200", b"201", b"100", b"103", b"101", b"302",
        b"503", b"+202", b"2_02", b" ", b"\t", b"\x0b", b"\x85", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b": ", b",",
        b"\x00",
        b"Content-Length", b"Transfer-Encoding", b"chunked", b"Content-Encoding", b"gzip", b"Connection", b"keep-alive",
        b"Location", b"http://127.0.0.1:1/", b"Set-Cookie", b"a=b", b"Retry-After", b"9" * 30, b"-1", b"5", b"0",
        b'{"id":"g-1"}', b'{"error":"send_failed"}', b"\xff\xfe",
        b"HTTP/1.1 202 Accepted\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
    ]
)  # fmt: skip
_ANSWERS: Final = st.one_of(
    st.binary(max_size=200),
    st.lists(_PIECES, max_size=30).map(b"".join),
    st.lists(_PIECES, max_size=30).map(lambda pieces: b"HTTP/1.1 " + b"".join(pieces)),
    st.lists(st.one_of(_PIECES, st.binary(max_size=8)), max_size=20).map(
        lambda p: b"HTTP/1.1 202 OK\r\n" + b"".join(p)
    ),
)


class AnyAnswer:
    """A server whose next response the test sets. All examples share it, because starting hundreds would take long."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, peer: Peer) -> None:
        peer.read_request()
        peer.send(self.data)
        peer.fin()


@pytest.fixture(scope="module")
def any_answer() -> Iterator[tuple[AnyAnswer, FaultServer, Transport]]:
    script = AnyAnswer()
    with FaultServer(script) as server:
        client = Transport(tls=client_tls())
        yield script, server, client
        client.close()


@settings(max_examples=400)
@given(data=_ANSWERS)
@example(data=b"HTTP/1.1 202")
@example(data=b"HTTP/1.1 2020")
@example(data=b"HTTP/1.1 100 \n\nHTTP/1.1 202 ")
def test_whatever_bytes_come_only_a_success_is_sent(
    any_answer: tuple[AnyAnswer, FaultServer, Transport], data: bytes
) -> None:
    script, server, client = any_answer
    script.data = data
    before = server.begun_requests
    answered = post(client, server.url)
    assert server.begun_requests == before + 1
    assert answered.handed_over
    decided = outcome(answered)
    if decided is Outcome.ACCEPTED:
        assert _SUCCESS.match(data)
    if answered.status is None:
        assert decided is Outcome.UNKNOWN


@pytest.mark.parametrize("depth", [50, 500, *range(900, 1100, 10), 5000, 30_000])
def test_a_deeply_nested_body_has_an_outcome(depth: int) -> None:
    body = b'{"error":' + b"[" * depth + b"]" * depth + b"}"
    assert outcome(Exchange(handed_over=True, status=503, body=body)) is Outcome.UNKNOWN
