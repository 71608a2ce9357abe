"""`rotate-callback-password`: a new password for the callback URLs."""

from __future__ import annotations

import click

from cli.callback_secret import rotate, rotated_lately
from cli.commands.callback_urls import show_urls
from cli.commands.confirmation import ask
from cli.context import CommandContext, with_context


@click.command("rotate-callback-password")
@click.option("--yes", is_flag=True, help="Don't ask.")
@with_context
def rotate_callback_password(context: CommandContext, *, yes: bool) -> None:
    """Make a new password for the callback URLs. Prints the URLs for the gateway's portal.

    The old password counts until the next rotation, so nothing is refused before the portal has the new one.
    """
    if rotated_lately(context.target):
        context.out.note(
            "It was rotated within the last day. The password before the current one ends now: if the portal still "
            "has that one,\nits callbacks are refused until you enter the new URLs.",
            "unsure",
        )
    ask(f"Rotate the callback password of {context.target.name}?", yes=yes)
    context.again = "It may have been rotated: `callback-urls` prints the URLs as they are now. Don't rotate it twice."
    rotate(context.target)
    show_urls(context)
