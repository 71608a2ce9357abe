"""The two secrets, cached in the execution environment and refreshed without a failed message or callback."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from optus_sms.model.errors import CredentialsError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

PLACEHOLDER: Final = "REPLACE_ME"
_CURRENT, _PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
# GetSecretValue's errors that last until an operator fixes their cause.
_REVOKED: Final = ("InvalidRequestException", "AccessDeniedException", "DecryptionFailure")


@dataclass(frozen=True, slots=True)
class GatewayCredentials:
    """Application name and password from the gateway's portal (page api_config/restv2).

    ``ca_certificate``: of a private certificate authority to trust, in PEM; empty for none.
    """

    application: str = field(repr=False)
    password: str = field(repr=False)
    version: str = field(default="", compare=False)  # the secret's version ID in Secrets Manager
    ca_certificate: str = field(default="", compare=False, repr=False)

    @property
    def authorization(self) -> str:
        """Return the Basic header (RFC 7617, UTF-8)."""
        return "Basic " + base64.b64encode(f"{self.application}:{self.password}".encode()).decode()


class GatewaySecret:
    """`GatewaySecret`, read once per execution environment, and again if the gateway refuses it or isn't trusted."""

    def __init__(self, client: SecretsManagerClient, secret_id: str) -> None:
        self._client = client
        self._secret_id = secret_id
        self._lock = threading.Lock()
        self._current: GatewayCredentials | None = None
        self._refused: GatewayCredentials | None = None  # refused by the gateway, although the secret was read again

    def current(self) -> GatewayCredentials:
        """Return the cached credentials; `CredentialsError` names the secret and the value to store in it."""
        with self._lock:
            if self._current is None:
                self._current = self._read()
            return self._current

    def newer_than(self, refused: GatewayCredentials) -> GatewayCredentials | None:
        """Read the secret again, once for all threads; return credentials other than the refused ones, or None."""
        with self._lock:
            if self._refused != refused and self._current in (None, refused):
                self._current = self._read()
                self._refused = refused
            return None if self._current == refused else self._current

    def forget_refused(self) -> None:
        """If the gateway refused the cached credentials, read the secret again at the next use: it may be corrected."""
        with self._lock:
            if self._refused is not None and self._refused == self._current:
                self._current = None
            self._refused = None

    def ca_certificate(self) -> str | None:
        """Return the PEM of the authority to trust, empty for none; None while the secret is unusable.

        Code that needs the credentials reports that error; the gateway's health can be checked without them.
        """
        try:
            return self.current().ca_certificate
        except Exception:  # noqa: BLE001 - any error
            return None

    def certificate_refused(self) -> None:
        """Read the secret again in the next batch, because by then it may name another authority."""
        with self._lock:
            self._refused = self._current

    def _read(self) -> GatewayCredentials:
        return credentials_in(*read_json(self._client, self._secret_id, _CURRENT) or ({}, ""))


def credentials_in(fields: Mapping[str, Any], version: str = "") -> GatewayCredentials:
    """Return the credentials in the fields of `GatewaySecret`; `CredentialsError` names the field and the fix."""
    application, password = _text(fields, "application"), _text(fields, "password")
    hint = 'put {"application": "…", "password": "…"} from the portal (API configuration, REST v2) into GatewaySecret'
    if not application or not password:
        raise CredentialsError(f"GatewaySecret has no application or no password; {hint}")
    if PLACEHOLDER in (application, password):
        raise CredentialsError(f"GatewaySecret still holds the placeholder; {hint}")
    if ":" in application:
        raise CredentialsError(f"GatewaySecret: an application name can't hold a colon (RFC 7617); {hint}")
    return GatewayCredentials(application, password, version, _authority(fields.get("ca_certificate")))


class CallbackSecret:
    """`CallbackSecret`: the credentials of callbacks. The current and the previous version are both valid.

    Unauthenticated callers must not cause calls to Secrets Manager. So the secret's versions are read

    - every `KEEP_SECONDS`, for which a revoked password can stay valid;
    - after a mismatch, because the secret may have been rotated, at most every `REFRESH_SECONDS`;
    - while reading fails, at most every `RETRY_SECONDS`.
    """

    KEEP_SECONDS: Final = 300.0
    REFRESH_SECONDS: Final = 60.0
    RETRY_SECONDS: Final = 5.0

    def __init__(self, client: SecretsManagerClient, secret_id: str, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._secret_id = secret_id
        self._monotonic = monotonic
        self._digests: dict[str, bytes] = {}  # by version stage
        self._asked_at: float | None = None
        self._failure: Exception | None = None

    def admits(self, authorization: str) -> bool:
        """Return whether a Basic header has valid credentials. All wrong ones take the same time.

        While the secret can't be read, the versions that were read before stay valid, unless it is deleted or access is
        denied: then they are revoked. Any other password may be a new one. So it is not refused; instead the cause is
        raised: `CredentialsError` for an unusable secret, or botocore's error.
        """
        given = _basic_digest(authorization)
        self._refresh_if_older_than(self.KEEP_SECONDS)
        if self._matches(given):
            return True
        self._refresh_if_older_than(self.REFRESH_SECONDS)
        if self._matches(given):
            return True
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # otherwise the traceback would grow with each raise
        return False

    def _matches(self, given: bytes) -> bool:
        # No early exit: the time must not depend on the version that matches.
        return any([hmac.compare_digest(given, digest) for digest in self._digests.values()])  # noqa: C419

    def _refresh_if_older_than(self, seconds: float) -> None:
        now = self._monotonic()
        wait = seconds if self._failure is None else min(seconds, self.RETRY_SECONDS)
        if self._asked_at is not None and now - self._asked_at < wait:
            return
        self._asked_at = now
        failure = self._read(_CURRENT)
        if failure is None or isinstance(failure, CredentialsError):
            failure = self._read(_PREVIOUS) or failure
        self._failure = failure  # raised for callers whose password can't be checked without the secret

    def _read(self, stage: str) -> Exception | None:
        """Read one version; return the error if that failed. An absent, unusable or denied previous one is no error."""
        try:
            found = read_json(self._client, self._secret_id, stage)
        except Exception as error:  # noqa: BLE001 - kept in `_failure`
            if _code(error) not in _REVOKED:
                return error  # a temporary error; the version that was read before stays valid
            return self._forget(stage, error)
        fields = found[0] if found else {}
        username, password = _text(fields, "username"), _text(fields, "password")
        if username and password:
            self._digests[stage] = _digest(f"{username}:{password}".encode())
            return None
        unusable = CredentialsError(
            'CallbackSecret has no username or no password; put {"username": "…", "password": "…"} into it'
        )
        if found:
            self._digests.pop(stage, None)
            return unusable if stage == _CURRENT else None
        return self._forget(stage, unusable)

    def _forget(self, stage: str, why: Exception) -> Exception | None:
        """Stop accepting this version, because it is deleted or denied; without a current version, accept none."""
        if stage == _PREVIOUS:
            self._digests.pop(stage, None)
            return None
        self._digests.clear()
        return why


def read_json(client: SecretsManagerClient, secret_id: str, stage: str) -> tuple[dict[str, Any], str] | None:
    """Return the fields of a secret's version, and its ID; None if there is no such version."""
    try:
        response = client.get_secret_value(SecretId=secret_id, VersionStage=stage)
    except client.exceptions.ResourceNotFoundException:
        return None
    try:
        fields = json.loads(response.get("SecretString", ""))
    except ValueError:
        fields = None
    return fields if isinstance(fields, dict) else {}, response["VersionId"]


def _code(error: Exception) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _authority(pem: object) -> str:
    """Return the certificates of a private authority, if there are any and they can be loaded."""
    if not pem:
        return ""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=str(pem))
    except (TypeError, ValueError, ssl.SSLError):
        raise CredentialsError(
            "GatewaySecret: ca_certificate is not a certificate in PEM (-----BEGIN CERTIFICATE-----, line by line); "
            "put that of your certificate authority there, or remove the field (docs/deploy.md)"
        ) from None
    return str(pem)


def _basic_digest(authorization: str) -> bytes:
    """Return the digest of ``user:password`` in a Basic header; for any other header a digest that never matches."""
    scheme, _, encoded = authorization.strip().partition(" ")
    try:
        credentials = base64.b64decode(encoded.strip().encode(), validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        credentials = b""
    return _digest(credentials)


def _digest(credentials: bytes) -> bytes:
    return hashlib.sha256(credentials).digest()
