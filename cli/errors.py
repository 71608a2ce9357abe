"""Exit codes, and errors that name the next step."""

from __future__ import annotations

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
    """What the command says to a script (docs/cli.md)."""

    OK = 0
    FAILED = 1  # something unexpected, of AWS or of ours
    USAGE = 2  # click's own code
    NO_TARGET = 3  # no stack, no credentials, not running
    NOT_FOUND = 4
    INVALID = 5  # a message or a plan breaks a rule; nothing was done
    NOT_DELIVERED = 6  # the final word is no
    UNKNOWN = 7  # whether it was sent is unknown
    ON_ITS_WAY = 8  # still, when the time to follow it was over
    NOT_ALL = 9  # some of it was refused, or some check failed
    INTERRUPTED = 130  # by Ctrl-C, as shells have it


class CliError(click.ClickException):
    """What is wrong, and what to do next. May quote what somebody else wrote: it is made fit for a terminal."""

    def __init__(self, problem: str, next_step: str = "", code: Exit = Exit.FAILED) -> None:
        lines = [*problem.split("\n"), *(next_step.split("\n") if next_step else ())]
        super().__init__("\n".join(one_line(line) for line in lines))
        self.problem, self.next_step = problem, next_step
        self.exit_code = int(code)


_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "UnrecognizedClientException"})
_WRONG = frozenset({"InvalidClientTokenId", "SignatureDoesNotMatch", "InvalidAccessKeyId", "AuthFailure"})
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"})
_LOG_IN = "Log in (aws sso login, aws configure, AWS_PROFILE=… or --profile), then try again."


def from_aws(error: BotoCoreError | ClientError, *, local: bool) -> CliError:  # noqa: PLR0911 - one line for each cause
    """The same in words that name the next step. AWS's own texts hold neither message text nor numbers of ours."""
    if local and isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return CliError(
            "The local stack is not running; .local/endpoints.env is of an earlier one.",
            "Start it with `make run` in another terminal, or name a deployed stack with --stack.",
            Exit.NO_TARGET,
        )
    if isinstance(error, ClientError):
        return _from_answer(error)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return CliError("There are no AWS credentials.", _LOG_IN, Exit.NO_TARGET)
    if isinstance(error, ProfileNotFound):
        return CliError(str(error), "`aws configure list-profiles` lists those there are.", Exit.NO_TARGET)
    if isinstance(error, NoRegionError):
        return CliError("No AWS region is set.", "Name it with --region, AWS_REGION or a profile.", Exit.NO_TARGET)
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return CliError(
            "AWS can't be reached.", "Check the network and the region (--region), then try again.", Exit.NO_TARGET
        )
    if "SSO" in type(error).__name__ or "Token" in type(error).__name__:
        return CliError("The login to AWS has expired.", _LOG_IN, Exit.NO_TARGET)
    return CliError(f"AWS: {error}", "Try again; what was done so far is kept.")


def _from_answer(error: ClientError) -> CliError:
    code = error.response["Error"]["Code"]
    operation = error.operation_name
    if code in _EXPIRED:
        return CliError("The AWS credentials have expired, or are not known in this region.", _LOG_IN, Exit.NO_TARGET)
    if code in _WRONG:
        return CliError("AWS does not know these credentials.", _LOG_IN, Exit.NO_TARGET)
    if code in _DENIED:
        return CliError(
            f"These AWS credentials may not call {operation}.", "Use a role that may; docs/cli.md lists what is needed."
        )
    return CliError(f"AWS refused {operation}: {code}.", "Try again; what was done so far is kept.")
