"""Everything that can be wrong, and what to do about it.

::

    OptusSmsError
    ├── SettingsError            the function's environment is incomplete: fix the template
    ├── CredentialsError         a secret is missing, malformed or still a placeholder: fill it in; nothing was sent
    ├── InvalidMessageError      a queue message breaks a rule: dead-letter queue, reason ``invalid``
    ├── UnreadableCallbackError  an authenticated callback makes no sense: kept raw in the dead-letter queue
    └── ReconcilingError         some steps of a run failed, and are done again in the next one

What the gateway answers is not an error but an `optus_sms.gateway.api.Outcome`: "unknown" is a result like any
other here.
No error message holds message text, a whole phone number or a credential.
"""

from __future__ import annotations

from collections.abc import Sequence


class OptusSmsError(Exception):
    """Base of all errors of this package."""


class SettingsError(OptusSmsError):
    """The environment variables of a function are missing or wrong; the message lists all problems at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))


class CredentialsError(OptusSmsError):
    """A secret can't be used; the message says what to put where."""


class InvalidMessageError(OptusSmsError):
    """A queue message breaks a rule of the contract.

    Each of ``problems`` is ``field: rule``, ``detail`` all of them. They never quote a value, but may quote the name of
    an unknown field, so they go to the dead-letter queue and not into a log.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        self.detail = "; ".join(problems)
        super().__init__(self.detail)


class UnreadableCallbackError(OptusSmsError):
    """An authenticated callback can't be understood; ``detail`` says why without quoting it."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class ReconcilingError(OptusSmsError):
    """Steps of a run that failed; all others were done. The log says why."""

    def __init__(self, steps: Sequence[str]) -> None:
        self.steps = tuple(steps)
        super().__init__(", ".join(steps))
