"""Exit codes, and errors that name the next step."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import click

from cli.output import one_line

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError


class Exit(IntEnum):
    """The exit codes (docs/cli.md)."""

    OK = 0
    FAILED = 1  # an unexpected error
    USAGE = 2  # click's own code
    NO_TARGET = 3  # no stack, no credentials, not running
    NOT_FOUND = 4
    INVALID = 5  # a message, a plan or a journal breaks a rule, and nothing was done
    NOT_DELIVERED = 6  # and it never will be
    UNKNOWN = 7  # the outcome is unknown
    ON_ITS_WAY = 8  # at the timeout
    NOT_ALL = 9  # some messages were refused, or a check failed
    INTERRUPTED = 130  # by Ctrl-C: the code that shells use


class CliError(click.ClickException):
    """An error, and what to do next. It can quote untrusted text, which is made safe for a terminal."""

    def __init__(self, problem: str, next_step: str = "", code: Exit = Exit.FAILED) -> None:
        lines = [*problem.split("\n"), *(next_step.split("\n") if next_step else ())]
        super().__init__("\n".join(one_line(line) for line in lines))
        self.problem, self.next_step = problem, next_step
        self.exit_code = int(code)


def not_utf8(name: str, beginning: bytes, convert: Callable[[str], str]) -> CliError:
    """Return the error for a text that is not UTF-8. ``convert``: the whole command, from the part with iconv."""
    is_utf16 = beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    probable = "UTF-16" if is_utf16 else "WINDOWS-1252"  # iconv needs a name; this is Windows's default
    command = convert(f"iconv -f {probable} -t UTF-8")
    return CliError(f"{name} is not UTF-8, but probably {probable}.", f"Convert it: {command}", Exit.INVALID)


_EXPIRED: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired", "UnrecognizedClientException"}
)
_WRONG: Final = frozenset({"InvalidClientTokenId", "SignatureDoesNotMatch", "InvalidAccessKeyId", "AuthFailure"})
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"})
# Errors of botocore that a new login fixes, besides those with "SSO", "Login" or "Token" in their names.
_LOGIN_ENDED: Final = frozenset(
    {"CredentialRetrievalError", "MetadataRetrievalError", "RefreshWithMFAUnsupportedError", "NoAuthTokenError"}
)


def aws_errors() -> tuple[type[BotoCoreError], type[ClientError]]:
    """Return the error classes of AWS's client, imported only after an error."""
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError


def from_aws(  # noqa: PLR0911 - one line for each cause
    error: BotoCoreError | ClientError, *, local: bool, profile: str | None = None
) -> CliError:
    """Return an error that names the next step. AWS's own texts hold neither message texts nor numbers."""
    from botocore import exceptions as aws

    if local and isinstance(error, aws.EndpointConnectionError | aws.ConnectTimeoutError):
        return CliError(
            "The local stack does not respond.",
            "Start it with `make run` in another terminal, or name a deployed stack with --stack.",
            Exit.NO_TARGET,
        )
    if isinstance(error, aws.ClientError):
        return _from_response(error, profile)
    if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError):
        return CliError("There are no AWS credentials.", _how_to_log_in(profile), Exit.NO_TARGET)
    if isinstance(error, aws.ProfileNotFound):
        return CliError(str(error), "`aws configure list-profiles` lists the profiles.", Exit.NO_TARGET)
    if isinstance(error, aws.NoRegionError):
        return CliError("No AWS region is set.", "Set it with --region, AWS_REGION or a profile.", Exit.NO_TARGET)
    if isinstance(error, aws.EndpointConnectionError | aws.ConnectTimeoutError):
        return CliError(
            "AWS can't be reached.", "Check the network and the region (--region), then retry.", Exit.NO_TARGET
        )
    if isinstance(error, aws.ProxyConnectionError):
        return CliError(
            "The proxy does not respond.", "Correct or unset HTTPS_PROXY and HTTP_PROXY, then retry.", Exit.NO_TARGET
        )
    if isinstance(error, aws.SSLError):
        fix = "If a proxy here inspects TLS, name its certificates by AWS_CA_BUNDLE. Then retry."
        return CliError(f"AWS can't be reached over TLS: {error}", fix, Exit.NO_TARGET)
    name = type(error).__name__
    if name in _LOGIN_ENDED or any(part in name for part in ("SSO", "Login", "Token")):
        return CliError("The login to AWS has expired.", _how_to_log_in(profile), Exit.NO_TARGET)
    return CliError(f"AWS: {error}", "Retry; what was done so far is kept.")


def _from_response(error: ClientError, profile: str | None) -> CliError:
    code = error.response["Error"]["Code"]
    operation = error.operation_name
    if code in _EXPIRED:
        problem = "The AWS credentials have expired, or are not valid in this region."
        return CliError(problem, _how_to_log_in(profile), Exit.NO_TARGET)
    if code in _WRONG:
        return CliError("AWS rejects these credentials.", _how_to_log_in(profile), Exit.NO_TARGET)
    if code in _DENIED:
        return CliError(
            f"These AWS credentials may not call {operation}.", "Use a role that may; docs/cli.md lists what is needed."
        )
    return CliError(f"AWS refused {operation}: {code}.", "Retry; what was done so far is kept.")


def _how_to_log_in(profile: str | None) -> str:
    """Return the command that renews the login, by the profile's settings."""
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    if not profile and "AWS_ACCESS_KEY_ID" in os.environ:
        names = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
        return f"They are those of the variables {names}: set new ones, or unset the variables."
    try:
        profiles: Mapping[str, Mapping[str, Any]] = Session().full_config.get("profiles", {})
        name = profile or Session().get_config_variable("profile") or "default"
    except BotoCoreError:
        profiles, name = {}, profile or "default"
    settings = profiles.get(name, {})
    for _ in profiles:  # a role's login is that of its source profile
        if "source_profile" not in settings:
            break
        name = settings["source_profile"]
        settings = profiles.get(name, {})
    if {"sso_session", "sso_start_url"} & settings.keys():
        return f"Log in again: aws sso login --profile {name}"
    if "login_session" in settings:
        return f"Log in again: aws login --profile {name}"
    if process := settings.get("credential_process"):
        return f"Log in again with the program of the profile's credential_process: {process}"
    return "Log in: aws sso login, aws login or aws configure; --profile or AWS_PROFILE chooses a profile. Then retry."
