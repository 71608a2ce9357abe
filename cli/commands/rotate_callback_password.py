"""`rotate-callback-password`: a new password for the callback URLs."""

import click

from cli.callback_secret import rotate, rotated_lately
from cli.commands.callback_urls import show_urls
from cli.context import CommandContext, with_context


@click.command("rotate-callback-password")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
def rotate_callback_password(context: CommandContext, *, yes: bool) -> None:
    """Rotate the password of the callback URLs. Prints the URLs for the gateway's portal.

    The old password stays valid until the next rotation, so no callback is refused before the portal has the new one.
    """
    if rotated_lately(context.target):
        context.out.note(
            "The password was rotated within the last day. The one before it ends now: if the portal still has it,\n"
            "callbacks are refused until you enter the new URLs.",
            "unsure",
        )
    context.confirm(f"Rotate the callback password of {context.target.name}?", yes=yes)
    context.if_interrupted = (
        "The password may have been rotated: `callback-urls` prints the current URLs. Do not rotate it twice."
    )
    rotate(context.target)
    show_urls(context)
