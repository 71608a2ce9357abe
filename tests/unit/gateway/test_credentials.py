"""The two secrets: reads, rotation without a failure, and no leak by texts or by time."""

from __future__ import annotations

import base64
import hmac
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import trustme
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from optus_sms.gateway.credentials import CallbackSecret, GatewayCredentials, GatewaySecret
from optus_sms.model.errors import CredentialsError
from tests.support.builders import basic
from tests.support.fakes import FakeClock


class NoSuchVersionError(Exception):
    """Secrets Manager's ResourceNotFoundException."""


class FakeSecretsManager:
    """One secret: the text of each stage; counts the reads of it."""

    class exceptions:  # noqa: N801 - as botocore's clients call it
        ResourceNotFoundException = NoSuchVersionError

    def __init__(self, current: Any = None, previous: Any = None) -> None:
        self.reads: list[str] = []
        self.failure: Exception | None = None
        self.failures: dict[str, Exception] = {}
        self.rotate(current, previous)

    def rotate(self, current: Any, previous: Any = None) -> None:
        texts = {"AWSCURRENT": current, "AWSPREVIOUS": previous}
        self.stages = {k: v if isinstance(v, str) else json.dumps(v) for k, v in texts.items() if v is not None}

    def get_secret_value(self, *, SecretId: str, VersionStage: str) -> dict[str, str]:  # noqa: N803 - boto3's names
        self.reads.append(VersionStage)
        if failure := self.failure or self.failures.get(VersionStage):
            raise failure
        if VersionStage not in self.stages:
            raise NoSuchVersionError
        text = self.stages[VersionStage]
        return {"SecretString": text, "VersionId": f"version-of-{text}"}


def app(password: str) -> dict[str, str]:
    return {"application": "app", "password": password}


def password_of(credentials: GatewayCredentials | None) -> str | None:
    return None if credentials is None else credentials.password


def user(password: str) -> dict[str, str]:
    return {"username": "gateway", "password": password}


class TestGatewaySecret:
    @staticmethod
    def secret(client: FakeSecretsManager) -> GatewaySecret:
        return GatewaySecret(cast("Any", client), "secret-id")

    def test_is_read_once(self) -> None:
        client = FakeSecretsManager(app("one"))
        secret = self.secret(client)
        assert client.reads == []
        for _ in range(3):
            assert secret.current().password == "one"
        assert client.reads == ["AWSCURRENT"]

    def test_is_read_once_by_many_threads(self) -> None:
        client = FakeSecretsManager(app("one"))
        secret = self.secret(client)
        together = threading.Barrier(8)

        def current(_: int) -> GatewayCredentials:
            together.wait(timeout=30)
            return secret.current()

        with ThreadPoolExecutor(8) as pool:
            assert {credentials.password for credentials in pool.map(current, range(8))} == {"one"}
        assert len(client.reads) == 1

    def test_newer_than_the_refused_one_after_a_rotation(self) -> None:
        client = FakeSecretsManager(app("one"))
        secret = self.secret(client)
        refused = secret.current()
        client.rotate(app("two"), app("one"))
        assert password_of(secret.newer_than(refused)) == "two"
        assert password_of(secret.newer_than(refused)) == "two"  # another thread with the same 401
        assert secret.current().password == "two"
        assert len(client.reads) == 2

    def test_newer_than_the_refused_one_is_nothing_without_a_rotation(self) -> None:
        client = FakeSecretsManager(app("one"))
        secret = self.secret(client)
        refused = secret.current()
        assert [secret.newer_than(refused) for _ in range(10)] == [None] * 10
        assert len(client.reads) == 2  # once for all threads that ask

    def test_refused_one_is_read_again_in_the_next_batch(self) -> None:
        client = FakeSecretsManager(app("one"))
        secret = self.secret(client)
        secret.newer_than(secret.current())
        client.rotate(app("two"))
        assert secret.current().password == "one"
        secret.forget_refused()
        assert secret.current().password == "two"

    def test_one_that_was_not_refused_is_kept(self) -> None:
        client = FakeSecretsManager(app("one"))
        secret = self.secret(client)
        secret.current()
        secret.forget_refused()
        secret.current()
        assert len(client.reads) == 1

    @pytest.mark.parametrize(
        "content",
        [
            None, "", "not json", "[]", "null", '"text"', {}, {"application": "app"}, {"password": "x"},
            app(""), {"application": "", "password": "x"}, {"application": 1, "password": 2}, app("REPLACE_ME"),
            {"application": "REPLACE_ME", "password": "x"}, {"application": "a:b", "password": "x"},
        ],
    )  # fmt: skip
    def test_that_is_unusable_says_what_to_put_where(self, content: Any) -> None:
        secret = self.secret(FakeSecretsManager(content))
        with pytest.raises(CredentialsError) as caught:
            secret.current()
        assert all(fact in str(caught.value) for fact in ("GatewaySecret", '"application"', '"password"'))

    def test_names_a_private_authority(self) -> None:
        pem = trustme.CA().cert_pem.bytes().decode() + trustme.CA().cert_pem.bytes().decode()
        credentials = self.secret(FakeSecretsManager(app("one") | {"ca_certificate": pem})).current()
        assert credentials.ca_certificate == pem
        assert credentials == GatewayCredentials("app", "one")  # no other credentials, so the refusal stays

    @pytest.mark.parametrize("none", [None, ""])
    def test_names_no_authority(self, none: Any) -> None:
        secret = self.secret(FakeSecretsManager(app("one") | {"ca_certificate": none}))
        assert secret.ca_certificate() == ""

    @pytest.mark.parametrize(
        "pem",
        [
            "c4n4ry", " ", ["c4n4ry"], {"a": 1}, 7, "Zürich", "\0",
            "-----BEGIN CERTIFICATE-----\nc4n4ry\n-----END CERTIFICATE-----",
            trustme.CA().cert_pem.bytes().decode().replace("\n", " "), trustme.CA().cert_pem.bytes().decode()[:300],
            trustme.CA().private_key_pem.bytes().decode(),
        ],
        ids=range(11),
    )  # fmt: skip
    def test_with_an_authority_that_is_none_names_field_and_fix(self, pem: Any) -> None:
        secret = self.secret(FakeSecretsManager(app("one") | {"ca_certificate": pem}))
        with pytest.raises(CredentialsError) as caught:
            secret.current()
        assert all(
            fact in str(caught.value) for fact in ("GatewaySecret", "ca_certificate", "BEGIN CERTIFICATE", "remove")
        )
        assert "c4n4ry" not in str(caught.value)
        assert secret.ca_certificate() is None

    def test_is_read_again_after_a_certificate_that_was_not_trusted(self) -> None:
        client = FakeSecretsManager(app("one"))
        secret = self.secret(client)
        secret.current()
        secret.certificate_refused()
        assert len(client.reads) == 1
        secret.forget_refused()
        secret.current()
        assert len(client.reads) == 2

    def test_that_was_unusable_is_read_again(self) -> None:
        client = FakeSecretsManager(app("REPLACE_ME"))
        secret = self.secret(client)
        with pytest.raises(CredentialsError):
            secret.current()
        client.rotate(app("right"))
        assert secret.current().password == "right"

    def test_shows_no_credentials(self) -> None:
        assert "c4n4ry" not in repr(GatewayCredentials("c4n4ry-app", "c4n4ry-password"))
        secret = self.secret(FakeSecretsManager({"application": "c4n4ry:app", "password": "c4n4ry"}))
        with pytest.raises(CredentialsError) as caught:
            secret.current()
        assert "c4n4ry" not in str(caught.value)

    @given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
    def test_header_is_basic_in_utf_8(self, application: str, password: str) -> None:
        scheme, _, encoded = GatewayCredentials(application, password).authorization.partition(" ")
        assert (scheme, base64.b64decode(encoded)) == ("Basic", f"{application}:{password}".encode())


class TestCallbackSecret:
    @pytest.fixture
    def time(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def client(self) -> FakeSecretsManager:
        return FakeSecretsManager(user("one"))

    @pytest.fixture
    def secret(self, client: FakeSecretsManager, time: FakeClock) -> CallbackSecret:
        return CallbackSecret(cast("Any", client), "secret-id", time.monotonic)

    def test_admits_its_own(self, secret: CallbackSecret) -> None:
        assert secret.admits(basic("gateway", "one"))

    @pytest.mark.parametrize(
        "authorization",
        [
            "", " ", "Basic", "Basic ", "Basic !!!", "Basic =", "Bearer " + basic("gateway", "one").split()[1],
            basic("gateway", "two"), basic("gateway", "on"), basic("gateway", "one "), basic("Gateway", "one"),
            basic("", ""), basic("gateway:one", ""), basic("gateway", "one")[:-1], basic("gateway", "one") + "x",
            "Basic Basic " + basic("gateway", "one").split()[1], "Basic ünïcödé", "\x00", "Basic " + "A" * 100_000,
        ],
    )  # fmt: skip
    def test_refuses_everything_else(self, secret: CallbackSecret, authorization: str) -> None:
        assert not secret.admits(authorization)

    @pytest.mark.parametrize("scheme", ["basic", "BASIC", "bAsIc"])
    def test_scheme_in_any_case_with_any_space(self, secret: CallbackSecret, scheme: str) -> None:
        assert secret.admits(f"  {scheme}   {basic('gateway', 'one').split()[1]}  ")

    @pytest.mark.parametrize("password", ["pässwörd", "密码", "a:b:c", "x" * 500, "\u0000"])
    def test_passwords_are_bytes(self, client: FakeSecretsManager, secret: CallbackSecret, password: str) -> None:
        client.rotate(user(password))
        assert secret.admits(basic("gateway", password))
        latin = base64.b64encode(f"gateway:{password}".encode("latin-1", "replace")).decode()
        assert password.isascii() or not secret.admits(f"Basic {latin}")

    def test_both_versions_count_during_a_rotation(self, client: FakeSecretsManager, secret: CallbackSecret) -> None:
        client.rotate(user("two"), user("one"))
        assert secret.admits(basic("gateway", "one"))
        assert secret.admits(basic("gateway", "two"))
        assert not secret.admits(basic("gateway", "three"))

    def test_unusable_previous_version_is_ignored(self, client: FakeSecretsManager, secret: CallbackSecret) -> None:
        client.rotate(user("two"), "not json")
        assert secret.admits(basic("gateway", "two"))
        assert not secret.admits("Basic ")

    def test_is_cached(self, client: FakeSecretsManager, secret: CallbackSecret, time: FakeClock) -> None:
        for _ in range(299):
            assert secret.admits(basic("gateway", "one"))
            time.advance(1)
        assert client.reads == ["AWSCURRENT", "AWSPREVIOUS"]

    def test_rotation_is_seen_at_the_first_use_of_the_new_password(
        self, client: FakeSecretsManager, secret: CallbackSecret, time: FakeClock
    ) -> None:
        secret.admits(basic("gateway", "one"))
        client.rotate(user("two"), user("one"))
        time.advance(60)
        assert secret.admits(basic("gateway", "two"))
        assert secret.admits(basic("gateway", "one"))

    def test_revoked_password_dies_within_five_minutes(
        self, client: FakeSecretsManager, secret: CallbackSecret, time: FakeClock
    ) -> None:
        assert secret.admits(basic("gateway", "one"))
        client.rotate(user("three"), user("two"))
        time.advance(299)
        assert secret.admits(basic("gateway", "one"))
        time.advance(1)
        assert not secret.admits(basic("gateway", "one"))

    def test_strangers_cannot_drive_reads(
        self, client: FakeSecretsManager, secret: CallbackSecret, time: FakeClock
    ) -> None:
        for _ in range(6000):  # ten minutes of ten guesses a second
            assert not secret.admits(basic("gateway", "guess"))
            time.advance(0.1)
        assert len(client.reads) <= 2 * 11

    def test_strangers_cannot_drive_reads_while_they_fail(
        self, client: FakeSecretsManager, secret: CallbackSecret, time: FakeClock
    ) -> None:
        client.failure = ClientError({"Error": {"Code": "InternalServiceError"}}, "GetSecretValue")
        for _ in range(600):
            with pytest.raises(ClientError):
                secret.admits(basic("gateway", "guess"))
            time.advance(0.1)
        assert len(client.reads) <= 13

    def test_known_password_counts_while_reads_fail_and_a_new_one_is_not_refused(
        self, client: FakeSecretsManager, secret: CallbackSecret, time: FakeClock
    ) -> None:
        secret.admits(basic("gateway", "one"))
        client.rotate(user("two"), user("one"))
        client.failure = ClientError({"Error": {"Code": "InternalServiceError"}}, "GetSecretValue")
        time.advance(400)
        assert secret.admits(basic("gateway", "one"))
        with pytest.raises(ClientError):
            secret.admits(basic("gateway", "two"))
        client.failure = None
        time.advance(5)
        assert secret.admits(basic("gateway", "two"))

    @pytest.mark.parametrize(
        "failure",
        [
            NoSuchVersionError(),
            *(
                ClientError({"Error": {"Code": code}}, "GetSecretValue")
                for code in ("AccessDeniedException", "InvalidRequestException", "DecryptionFailure")
            ),
        ],
    )
    def test_known_password_dies_within_five_minutes_after_the_secret(
        self, client: FakeSecretsManager, secret: CallbackSecret, time: FakeClock, failure: Exception
    ) -> None:
        client.rotate(user("two"), user("one"))
        assert secret.admits(basic("gateway", "one"))
        client.failure = failure
        time.advance(300)
        for password in ("one", "two"):
            with pytest.raises((ClientError, CredentialsError)):
                secret.admits(basic("gateway", password))

    @pytest.mark.parametrize("content", ["{,}", {"username": "gateway"}])
    def test_unusable_current_version_refuses_nobody(
        self, client: FakeSecretsManager, secret: CallbackSecret, content: Any
    ) -> None:
        client.rotate(content, user("one"))
        assert secret.admits(basic("gateway", "one"))
        with pytest.raises(CredentialsError):
            secret.admits(basic("gateway", "two"))

    @pytest.mark.parametrize("code", ["ThrottlingException", "DecryptionFailure"])
    def test_unreadable_previous_version_does_not_refuse_the_current_one(
        self, client: FakeSecretsManager, secret: CallbackSecret, code: str
    ) -> None:
        client.rotate(user("two"), user("one"))
        client.failures["AWSPREVIOUS"] = ClientError({"Error": {"Code": code}}, "GetSecretValue")
        assert secret.admits(basic("gateway", "two"))
        if code == "ThrottlingException":  # it can be the previous one
            with pytest.raises(ClientError):
                secret.admits(basic("gateway", "one"))
        else:
            assert not secret.admits(basic("gateway", "one"))

    @pytest.mark.parametrize(
        "content", [None, "", "[]", {}, {"username": "gateway"}, user(""), {"username": 1, "password": 2}]
    )
    def test_unusable_says_what_to_put_where(
        self, client: FakeSecretsManager, secret: CallbackSecret, content: Any
    ) -> None:
        client.rotate(content)
        with pytest.raises(CredentialsError) as caught:
            secret.admits(basic("", ""))
        assert all(fact in str(caught.value) for fact in ("CallbackSecret", '"username"', '"password"'))

    @pytest.mark.parametrize("authorization", [basic("gateway", "one"), basic("x", "y"), "", "Basic " + "A" * 9999])
    def test_takes_the_same_steps_for_everybody(
        self, client: FakeSecretsManager, secret: CallbackSecret, authorization: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every version is compared, with digests of one length, however close or far the guess is."""
        client.rotate(user("one"), user("zero"))
        secret.admits(basic("x", "y"))
        lengths: list[tuple[int, int]] = []

        def compare(given_digest: bytes, known: bytes) -> bool:
            lengths.append((len(given_digest), len(known)))
            return real(given_digest, known)

        real = hmac.compare_digest
        monkeypatch.setattr("optus_sms.gateway.credentials.hmac.compare_digest", compare)
        secret.admits(authorization)
        assert set(lengths) == {(32, 32)}
        assert len(lengths) % 2 == 0

    @given(st.text(max_size=100))
    def test_any_text_is_refused(self, authorization: str) -> None:
        secret = CallbackSecret(cast("Any", FakeSecretsManager(user("one"))), "secret-id", lambda: 0.0)
        assert not secret.admits(authorization)
        assert not secret.admits(f"Basic {authorization}")
