"""The acts of an operator on a message or a dead letter. Pure, except `run`, which runs the command line."""

import shlex
from dataclasses import dataclass
from typing import Final

from cli.dead_letter_queue import ReceivedDeadLetter
from cli.embedded import Ran
from cli.embedded import run as run_command
from cli.redrive_plan import SENDABLE, DeadLetterKind
from cli.stage import Facts, Stage, stage_of
from cli.target import Target
from optus_sms.records.items import OPTED_OUT


@dataclass(frozen=True, slots=True)
class Act:
    """A command. ``does``: its effect, shown before it runs."""

    label: str
    does: str
    before: tuple[str, ...]
    after: tuple[str, ...] = ()

    def command(self, id_: str) -> str:
        """Return the command for a terminal, where it asks before it acts."""
        words = [*self.before, *self.after, "--", id_] if id_.startswith("-") else [*self.before, id_, *self.after]
        return shlex.join(["optus-sms", *words])

    def arguments(self, id_: str) -> list[str]:
        """Return the command's arguments, with --yes."""
        if self.before[-1].startswith("-"):  # an option whose value is the ID
            return [*self.before[:-1], f"{self.before[-1]}={id_}", *self.after, "--yes"]
        return [*self.before, *self.after, "--yes", "--", id_]


ACTS: Final = {
    "resolve_sent": Act(
        "It was sent",
        "The portal shows that the gateway sent it: records that, and deletes its dead letter.",
        ("resolve",),
        ("--sent",),
    ),
    "resolve_not_sent": Act(
        "It was not sent",
        "The portal shows that the gateway did not send it: records that, and sends it now.",
        ("resolve",),
        ("--not-sent",),
    ),
    "recall": Act("Recall", "It is never sent under this message_id. That can't be undone.", ("recall",)),
    "redrive": Act("Redrive", "Sends it again under its message_id, if it was certainly not sent.", ("redrive",)),
    "delete": Act(
        "Delete", "Deletes the dead letter and sends nothing. That can't be undone.", ("dead-letters", "--delete")
    ),
}


def of_message(facts: Facts) -> list[dict[str, str]]:
    """Return the acts that a message's stage suggests. The command line decides whether they are allowed."""
    stage, ledger = stage_of(facts), facts.ledger
    is_open = ledger is not None and ledger.has_open_outcome
    names: tuple[str, ...] = ()
    is_opted_out = stage is Stage.REJECTED and ledger is not None and ledger.reason == OPTED_OUT
    if (stage is Stage.RECALLED or is_opted_out) and is_open:
        names = ("resolve_sent",)
    elif is_opted_out:
        names = ()  # no dead letter: nothing to redrive
    elif stage is Stage.UNKNOWN or (stage is Stage.REJECTED and is_open):
        names = ("resolve_sent", "resolve_not_sent")
    elif stage is Stage.REJECTED:
        names = ("redrive",)
    elif stage in (Stage.NOT_SEEN, Stage.RETRY):
        names = ("recall",)
    return [_shown(name, facts.message_id) for name in names]


def of_dead_letter(dead_letter: ReceivedDeadLetter, kind: DeadLetterKind) -> list[dict[str, str]]:
    """Return the acts for a dead letter's kind. Deletion is by SQS ID, because another one can have its message_id."""
    redrive = [_shown("redrive", dead_letter.message_id)] if kind in SENDABLE else []
    return [*redrive, _shown("delete", dead_letter.sqs_id)]


def run(name: str, id_: str, target: Target) -> Ran:
    """Run the act."""
    return run_command(ACTS[name].arguments(id_), target)


def _shown(name: str, id_: str) -> dict[str, str]:
    act = ACTS[name]
    return {"name": name, "id": id_, "label": act.label, "does": act.does, "command": act.command(id_)}
