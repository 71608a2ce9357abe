"""A gateway behind a TLS-inspecting proxy with a certificate of a private authority (`ca_certificate`)."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from itertools import count
from typing import Any, cast

import pytest
import trustme

from optus_sms.gateway import transport
from optus_sms.gateway.api import Gateway, Outcome
from optus_sms.gateway.credentials import GatewaySecret
from optus_sms.gateway.transport import Transport, new_tls_context
from tests.support.fault_server import FaultServer, Peer


def pem_of(authority: trustme.CA) -> str:
    return str(authority.cert_pem.bytes(), "ascii")


class Secret:
    """Secrets Manager with a secret that an operator can change."""

    class exceptions:  # noqa: N801 - as botocore's clients call it
        ResourceNotFoundException = KeyError

    def __init__(self) -> None:
        self.text = ""
        self.put()

    def put(self, ca_certificate: str | None = None) -> None:
        fields = {"application": "app", "password": "x", "ca_certificate": ca_certificate}
        self.text = json.dumps({name: value for name, value in fields.items() if value is not None})

    def get_secret_value(self, **_: str) -> dict[str, str]:
        return {"SecretString": self.text, "VersionId": self.text}


def accept(peer: Peer) -> None:
    for _ in count():
        peer.read_request()
        peer.send(b'HTTP/1.1 202 Accepted\r\nContent-Length: 13\r\n\r\n{"id": "g-1"}')


class Stage:
    """A gateway with a certificate of its own authority, and a function's objects for the secret."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.client = Secret()
        self.secret = GatewaySecret(cast("Any", self.client), "secret-id")
        self.transport = Transport(authority=self.secret)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(self.tls)

    def gateway(self, url: str) -> Gateway:
        return Gateway(self.transport, url.rpartition("/")[0], timeout_seconds=10, now=time.time)

    def post(self, gateway: Gateway) -> tuple[Outcome, str]:
        result = gateway.post_message({"content": "x"}, self.secret.current(), start_within=10)
        return result.outcome, result.reason


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.transport.close()


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the authority of each new context."""
    made: list[str] = []
    make = new_tls_context

    def new(ca_certificate: str = "") -> ssl.SSLContext:
        made.append(ca_certificate)
        return make(ca_certificate)

    monkeypatch.setattr(transport, "new_tls_context", new)
    return made


def test_is_trusted_if_the_secret_names_it(stage: Stage) -> None:
    stage.client.put(pem_of(stage.authority))
    with FaultServer(accept, tls=stage.tls) as server:
        gateway = stage.gateway(server.url)
        assert gateway.get_health().status == 202  # the very first request, without credentials
        assert stage.post(gateway)[0] is Outcome.ACCEPTED
        assert gateway.get_contract(None).status == 202


@pytest.mark.parametrize("ca_certificate", [None, pem_of(trustme.CA())])
def test_is_refused_before_a_byte_is_sent_if_it_does_not(stage: Stage, ca_certificate: str | None) -> None:
    stage.client.put(ca_certificate)
    with FaultServer(accept, tls=stage.tls) as server:
        assert stage.post(stage.gateway(server.url))[0] is Outcome.NOT_SENT
    assert server.connections[0].received == b""


def test_is_trusted_in_the_next_batch_after_an_operator_has_named_it(stage: Stage, contexts: list[str]) -> None:
    others, own = pem_of(trustme.CA()), pem_of(stage.authority)
    with FaultServer(accept, accept, accept, tls=stage.tls) as server:
        gateway = stage.gateway(server.url)
        for ca_certificate in (None, others, own):
            stage.client.put(ca_certificate)
            stage.secret.forget_refused()
            outcome, _ = stage.post(gateway)
        assert outcome is Outcome.ACCEPTED
    assert contexts == [others, own]


def test_one_context_serves_as_long_as_the_authority_is_the_same(stage: Stage, contexts: list[str]) -> None:
    stage.client.put(pem_of(stage.authority))
    with FaultServer(accept, tls=stage.tls) as server:
        gateway = stage.gateway(server.url)
        for _ in range(3):
            assert stage.post(gateway)[0] is Outcome.ACCEPTED
            stage.secret.certificate_refused()
            stage.secret.forget_refused()
    assert contexts == [pem_of(stage.authority)]
    assert len(server.connections) == 1


def test_an_unusable_secret_does_not_stop_the_health_check(stage: Stage) -> None:
    stage.client.put(pem_of(stage.authority))
    with FaultServer(accept, accept, tls=stage.tls) as server:
        gateway = stage.gateway(server.url)
        assert gateway.get_health().status == 202
        stage.client.text = "broken"
        stage.secret.certificate_refused()
        stage.secret.forget_refused()
        assert gateway.get_health().status == 202


def test_the_public_authorities_stay_trusted() -> None:
    public = new_tls_context().get_ca_certs(binary_form=True)
    both = new_tls_context(pem_of(trustme.CA())).get_ca_certs(binary_form=True)
    assert len(public) > 100
    assert set(public) < set(both)
    assert len(both) == len(public) + 1


def test_an_authority_may_lack_the_extensions_that_strict_checks_want() -> None:
    """Authorities of TLS-inspecting proxies often lack them, and Python 3.13 is strict by default."""
    context = new_tls_context(pem_of(trustme.CA()))
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
