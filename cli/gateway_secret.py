"""The gateway's credentials: read without showing them, checked by the functions' own rules, and stored."""

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from cli.errors import CliError, Exit
from cli.target import Target
from optus_sms.gateway.credentials import credentials_in, read_json
from optus_sms.model.errors import CredentialsError

NAMES: Final = ("application", "password")
_MOST_BYTES: Final = 65_536  # Secrets Manager's limit for a secret
_FORMS: Final = (
    "Give the application name and the password as two lines, or as JSON:\n"
    '{"application": "…", "password": "…"}. Nothing was stored.'
)


def read_credentials(stdin: BinaryIO) -> dict[str, str]:
    """Return the credentials on stdin: two lines, or a JSON object. No error quotes any of it."""
    given = stdin.read(_MOST_BYTES + 1)
    if len(given) > _MOST_BYTES:
        raise _wrong(f"has more than {_MOST_BYTES} bytes")
    try:
        text = given.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _wrong("is not UTF-8") from None
    if text.lstrip().startswith("{"):
        return _from_json(text)
    lines = text.removesuffix("\n").split("\n")
    if len(lines) != len(NAMES):
        raise _wrong(f"must have two lines, and has {len(lines)}")
    return dict(zip(NAMES, (line.removesuffix("\r") for line in lines), strict=True))


def _from_json(text: str) -> dict[str, str]:
    try:
        fields = json.loads(text, object_pairs_hook=_names_once)
    except (ValueError, RecursionError):
        raise _wrong("is not JSON") from None
    if set(fields) != set(NAMES) or not all(isinstance(value, str) for value in fields.values()):
        raise _wrong("must have the fields application and password, both texts, and no others")
    return cast("dict[str, str]", fields)


def _names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(fields := dict(pairs)) < len(pairs):
        raise _wrong("has a field twice")
    return fields


def read_certificate(path: Path) -> str:
    """Return the text of a PEM file; the functions' own rules check it later."""
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise CliError(f"{path} can't be read: {error.strerror}.", "Name another file.", Exit.USAGE) from None


def _wrong(problem: str) -> CliError:
    return CliError(f"stdin: {problem}.", _FORMS, Exit.INVALID)


def store(target: Target, credentials: Mapping[str, str]) -> None:
    """Write the credentials into the secret and keep its other fields; `CliError` if the functions would refuse them.

    Control characters are refused only here: credentials that a gateway accepted with one continue to work.
    """
    arn = target.outputs["GatewaySecretArn"]
    present, _ = read_json(target.secrets, arn, "AWSCURRENT") or ({}, "")
    fields = {**present, **credentials}
    for name in NAMES:
        if any(unicodedata.category(character) == "Cc" for character in credentials[name]):
            problem = f"{name}: has a control character, such as a tab, which HTTP does not allow (RFC 7617)."
            raise CliError(problem, "Copy it from the portal again. Nothing was stored.", Exit.INVALID)
    try:
        credentials_in(fields).authorization.encode()
    except CredentialsError as error:
        raise CliError(str(error), "Nothing was stored.", Exit.INVALID) from None
    except UnicodeEncodeError:
        raise CliError("The credentials are not Unicode text.", "Nothing was stored.", Exit.INVALID) from None
    target.secrets.put_secret_value(SecretId=arn, SecretString=json.dumps(fields))
