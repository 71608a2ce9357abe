"""In the layer each public root certificate is a file, which OpenSSL reads only if a server's certificate needs it."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import certifi
import pytest
import trustme

from layers.shared.trim import split_roots
from optus_sms.gateway.transport import Transport, new_tls_context
from tests.support.fault_server import FaultServer, Peer

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def pem_of(authority: trustme.CA) -> str:
    pem: bytes = authority.cert_pem.bytes()
    return pem.decode()


@pytest.fixture
def authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[trustme.CA]:
    """Two authorities of the same name, the only ones in certifi's folder; the file that lists all is empty."""
    made = [trustme.CA(organization_name="one", organization_unit_name="name") for _ in range(2)]
    split_roots("".join(map(pem_of, made)), tmp_path / "roots")
    monkeypatch.setattr(certifi, "where", lambda: str(tmp_path / "cacert.pem"))
    return made


@pytest.fixture
def transport() -> Iterator[Transport]:
    transport = Transport()
    yield transport
    transport.close()


def get(transport: Transport, authority: trustme.CA) -> tuple[int | None, str | None, bool]:
    """Return the status of a response, the failure, and whether a request came."""
    requests = []

    def answer(peer: Peer) -> None:
        for _ in count():
            requests.append(peer.read_request())
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with FaultServer(answer, tls=tls) as server:
        exchange = transport.exchange("GET", server.url, seconds=5)
    return exchange.status, exchange.failure, bool(requests)


@pytest.mark.parametrize("which", [0, 1])
def test_a_root_in_the_folder_is_trusted(authorities: list[trustme.CA], transport: Transport, which: int) -> None:
    assert get(transport, authorities[which]) == (200, None, True)


@pytest.mark.usefixtures("authorities")
def test_another_root_of_the_same_name_is_not(transport: Transport) -> None:
    other = trustme.CA(organization_name="one", organization_unit_name="name")
    status, failure, requests = get(transport, other)
    assert (status, (failure or "")[:12], requests) == (None, "certificate_", False)


@pytest.mark.parametrize("name", ["one", "another"])
def test_a_private_authority_is_trusted_besides(authorities: list[trustme.CA], tmp_path: Path, name: str) -> None:
    """Also one with the name of a public root, for which OpenSSL would not look into the folder."""
    (tmp_path / "cacert.pem").write_text("".join(map(pem_of, authorities)), encoding="utf-8")
    private = trustme.CA(organization_name=name, organization_unit_name="name")
    transport = Transport(tls=new_tls_context(pem_of(private)))
    assert [get(transport, each) for each in (private, *authorities)] == [(200, None, True)] * 3
    transport.close()


def test_openssl_finds_each_of_certifis_roots(tmp_path: Path) -> None:
    bundle = Path(certifi.where()).read_text(encoding="utf-8")
    split_roots(bundle, tmp_path)
    roots = sorted(map(str, tmp_path.iterdir()))
    assert len(roots) == bundle.count("BEGIN CERTIFICATE") > 100
    command = ["openssl", "verify", "-no_check_time", "-no-CAfile", "-no-CAstore", "-CApath", str(tmp_path), *roots]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.count(": OK\n")) == (0, len(roots)), result.stderr
