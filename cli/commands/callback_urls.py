"""`callback-urls`: the URLs for the gateway's portal."""

import click

from cli.callback_secret import callback_urls
from cli.context import CommandContext, with_context


@click.command("callback-urls")
@with_context
def callback_urls_(context: CommandContext) -> None:
    """Print the URLs for the gateway's portal. They contain the password."""
    show_urls(context)


def show_urls(context: CommandContext) -> None:
    urls = callback_urls(context.target)
    context.out.document(urls)
    context.out.line("They contain the password. Enter them in the gateway's portal, and nowhere else:", "good")
    for url in urls.values():
        context.out.line(url)
