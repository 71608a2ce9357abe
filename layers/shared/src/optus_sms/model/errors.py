"""Every error of this package, and what it means for the message, the callback or the operator.

::

    OptusSmsError
    ├── SettingsError            an environment variable is missing or wrong: fix the template
    ├── CredentialsError         a secret is missing, malformed or still a placeholder: fill it in; nothing was sent
    ├── InvalidMessageError      a queue message breaks a rule: dead-letter queue, reason ``invalid``
    ├── UnreadableCallbackError  an authenticated callback can't be parsed: dead-letter queue, body unchanged
    └── ReconcilingError         some steps of a reconciliation run failed; the next run repeats them

A response of the gateway is not an error but an `optus_sms.gateway.api.Outcome`, and "unknown" is one of them.
No error message holds message text, a whole phone number or a credential.
"""

import re
from collections.abc import Sequence
from typing import Final

from optus_sms.model.redaction import without_numbers

_QUOTED_NAME: Final = re.compile(r"""^(['"]).*\1(?=: )""", re.DOTALL)


class OptusSmsError(Exception):
    """Base of all errors of this package."""


class SettingsError(OptusSmsError):
    """Missing or wrong environment variables of a function; the message lists them all."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))


class CredentialsError(OptusSmsError):
    """An unusable secret; the message names the secret and the value to store in it."""


class InvalidMessageError(OptusSmsError):
    """A queue message that breaks a rule.

    Each of ``problems`` is ``field: rule``; ``detail`` joins them. They never quote a value, but can quote the name of
    an unknown field and the corrected number, so they go to the dead-letter queue and not into a log.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        self.detail = "; ".join(problems)
        super().__init__(without_numbers(self.detail))

    @property
    def public(self) -> str:
        """Return the detail as an event may have it: without names of unknown fields, and without numbers."""
        return without_numbers("; ".join(_QUOTED_NAME.sub("a field", problem) for problem in self.problems))


class UnreadableCallbackError(OptusSmsError):
    """An authenticated callback that can't be parsed; ``detail`` gives the reason without quoting the callback."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class ReconcilingError(OptusSmsError):
    """The failed steps of a reconciliation run. All other steps were done; the log has the reasons."""

    def __init__(self, steps: Sequence[str]) -> None:
        self.steps = tuple(steps)
        super().__init__(", ".join(steps))
