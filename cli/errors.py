"""Exit codes, and errors that name the next step."""

import codecs
from collections.abc import Callable
from enum import IntEnum

import click
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from cli.output import one_line


class Exit(IntEnum):
    """The exit codes (docs/cli.md)."""

    OK = 0
    FAILED = 1  # an unexpected error
    USAGE = 2  # click's own code
    NO_TARGET = 3  # no stack, no credentials, not running
    NOT_FOUND = 4
    INVALID = 5  # a message, a plan or a journal breaks a rule; nothing was done
    NOT_DELIVERED = 6  # and will not be
    UNKNOWN = 7  # whether it was sent is unknown
    ON_ITS_WAY = 8  # still, at the timeout
    NOT_ALL = 9  # some of it was refused, or some check failed
    INTERRUPTED = 130  # by Ctrl-C, as shells have it


class CliError(click.ClickException):
    """What is wrong, and what to do next. May quote untrusted text: it is made fit for a terminal."""

    def __init__(self, problem: str, next_step: str = "", code: Exit = Exit.FAILED) -> None:
        lines = [*problem.split("\n"), *(next_step.split("\n") if next_step else ())]
        super().__init__("\n".join(one_line(line) for line in lines))
        self.problem, self.next_step = problem, next_step
        self.exit_code = int(code)


def not_utf8(name: str, beginning: bytes, convert: Callable[[str], str]) -> CliError:
    """Return the error for a text that is not UTF-8. ``convert``: the whole command, from the part with iconv."""
    is_utf16 = beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    probable = "UTF-16" if is_utf16 else "WINDOWS-1252"  # iconv needs a name: what Windows writes by itself
    command = convert(f"iconv -f {probable} -t UTF-8")
    return CliError(f"{name} is not UTF-8, but probably {probable}.", f"Convert it: {command}", Exit.INVALID)


_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "UnrecognizedClientException"})
_WRONG = frozenset({"InvalidClientTokenId", "SignatureDoesNotMatch", "InvalidAccessKeyId", "AuthFailure"})
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"})
_LOG_IN = "Log in (aws sso login, aws configure, AWS_PROFILE=… or --profile), then retry."


def from_aws(error: BotoCoreError | ClientError, *, local: bool) -> CliError:  # noqa: PLR0911 - one line for each cause
    """Return the error in words that name the next step. AWS's own texts hold neither message texts nor numbers."""
    if local and isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return CliError(
            "The local stack does not respond.",
            "Start it with `make run` in another terminal, or name a deployed stack with --stack.",
            Exit.NO_TARGET,
        )
    if isinstance(error, ClientError):
        return _from_response(error)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return CliError("There are no AWS credentials.", _LOG_IN, Exit.NO_TARGET)
    if isinstance(error, ProfileNotFound):
        return CliError(str(error), "`aws configure list-profiles` lists the profiles.", Exit.NO_TARGET)
    if isinstance(error, NoRegionError):
        return CliError("No AWS region is set.", "Set it with --region, AWS_REGION or a profile.", Exit.NO_TARGET)
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return CliError(
            "AWS can't be reached.", "Check the network and the region (--region), then retry.", Exit.NO_TARGET
        )
    if "SSO" in type(error).__name__ or "Token" in type(error).__name__:
        return CliError("The login to AWS has expired.", _LOG_IN, Exit.NO_TARGET)
    return CliError(f"AWS: {error}", "Retry; what was done so far is kept.")


def _from_response(error: ClientError) -> CliError:
    code = error.response["Error"]["Code"]
    operation = error.operation_name
    if code in _EXPIRED:
        return CliError("The AWS credentials have expired, or are not known in this region.", _LOG_IN, Exit.NO_TARGET)
    if code in _WRONG:
        return CliError("AWS rejects these credentials.", _LOG_IN, Exit.NO_TARGET)
    if code in _DENIED:
        return CliError(
            f"These AWS credentials may not call {operation}.", "Use a role that may; docs/cli.md lists what is needed."
        )
    return CliError(f"AWS refused {operation}: {code}.", "Retry; what was done so far is kept.")
