"""`make run`: the whole stack on this machine. It sends and shows the examples, then stays up until Ctrl-C.

Options are environment variables (local/options.py); docs/local-stack.md explains them.
"""

import contextlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from local import endpoints, private_file, sam_local
from local.aws.function import LogSink
from local.aws.resources import ResourceError
from local.aws.stack import LocalStack, StackConfig, StackError
from local.demo.display import Display
from local.demo.examples import example_messages, marks, run_examples
from local.demo.load import run_many
from local.demo.watcher import Watcher
from local.options import OptionError, Options, read_options
from local.page.server import PhonePage
from local.signals import ending_signals
from local.simulator.config import LOOPBACK
from local.template import TemplateError

LOG_PATH = endpoints.PATH.with_name("functions.log")
AUTHORITY_PATH = endpoints.PATH.with_name("simulator-ca.pem")


def main() -> int:
    """Return the exit status: 0; 1 if an example did not reach its expected end; 2 if the stack can't start."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal in Latin-1 shows a question mark
    display = Display(on_lost=_end_without_reader)
    _forget_aws_settings()
    try:
        options = read_options()
        _end_by_signals()
        return _run(options, display)
    except KeyboardInterrupt:
        display.line("make run: has ended.")
        return 0
    except (OptionError, StackError, ResourceError, TemplateError, private_file.FolderInUseError) as error:
        display.line(f"make run: {error}")
        return 2


def _forget_aws_settings() -> None:
    """Remove the shell's AWS account and profile from the environment, because a local stack must not use them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def _end_by_signals() -> None:
    """Make a signal raise KeyboardInterrupt once, so that the clean-up is not interrupted again.

    Python drops an exception in a destructor or a weak reference's callback; in that case it is raised again.
    """
    ending = ending_signals()

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in ending:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    def raise_again(dropped: "sys.UnraisableHookArgs") -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(dropped)
            return
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.01)

    sys.unraisablehook = raise_again
    for number in ending:
        signal.signal(number, stop)


def _end_without_reader() -> None:
    """End the run, because the output has lost its reader, as behind `| head`. Can be called in any thread."""
    with contextlib.suppress(OSError):
        print("make run: has ended, because nothing reads its output any more.", file=sys.stderr, flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes at its end
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _run(options: Options, display: Display) -> int:
    started = time.monotonic()
    with private_file.only_run(endpoints.PATH.parent), _function_log() as log, contextlib.ExitStack() as exit_stack:
        config = StackConfig(
            bind=options.bind,
            port=options.port,
            gateway=options.gateway,
            tls=options.tls,
            schedule_speed=float(options.schedule_speed),
            log=log,
            progress=lambda step: display.progress(f"{step} …"),
        )
        stack = exit_stack.enter_context(LocalStack(config))
        watcher = Watcher(stack, display)
        page = exit_stack.enter_context(PhonePage(stack, watcher, display.quietly))
        values = endpoints.variables(stack) | {"PAGE_URL": page.url}
        if stack.simulator is not None and stack.simulator.ca_certificate:
            values["SIMULATOR_CA_CERTIFICATE"] = str(AUTHORITY_PATH.absolute())
            exit_stack.enter_context(private_file.present(AUTHORITY_PATH, stack.simulator.ca_certificate))
        exit_stack.enter_context(private_file.present(endpoints.PATH, endpoints.as_text(values)))
        sam_template = sam_local.as_text(sam_local.template(stack))
        exit_stack.enter_context(private_file.present(sam_local.PATH, sam_template))
        display.progress(f"Up after {time.monotonic() - started:.1f} s.", final=True)
        at_work = display.colored(f"See it at work in a browser: {page.url}", "good")
        display.line(f"\n  {at_work}\n")
        _tell_where(stack, options, display)
        watching = exit_stack.enter_context(contextlib.ExitStack())
        watching.enter_context(watcher)
        all_reached, closing = _send(stack, watcher, page, options, display)
        if options.once:
            watching.close()  # so that no event is printed after the closing lines
        if closing:
            display.line(f"\n{closing}")
        if options.once:
            return 0 if all_reached else 1
        _tell_how_to_try(stack, display)
        _tell_next_steps(at_work, display)
        threading.Event().wait()
    return 0


def _send(stack: LocalStack, watcher: Watcher, page: PhonePage, options: Options, display: Display) -> tuple[bool, str]:
    """Return whether every message reached its end, and the examples' closing lines."""
    all_reached, closing = True, ""
    if options.gateway_is_far and not options.no_examples:
        display.line("No examples are sent: this gateway is not on this machine, and its messages may cost money.")
    elif not options.no_examples:
        display.line()
        sent = list(example_messages(with_simulator=stack.simulator is not None))
        page.board.examples(marks(sent))
        all_reached, closing = run_examples(sent, stack, watcher, display)
    if options.messages:
        display.line()
        all_reached = run_many(stack, watcher, display, options.messages) and all_reached
    return all_reached, closing


def _tell_where(stack: LocalStack, options: Options, display: Display) -> None:
    if options.bind != LOOPBACK:
        display.line(_what_bind_exposes(options))
    rows = [
        ("AWS (SQS, DynamoDB, …)", stack.endpoint_url),
        ("callback API", stack.api_url),
        ("gateway", stack.gateway_url),
        ("addresses for your shell", endpoints.PATH),
        ("template for `sam local`", sam_local.PATH),
        ("log of the functions", LOG_PATH),
    ]
    if stack.simulator is not None:
        rows.insert(3, ("its control endpoint", f"{stack.simulator.control_url} (seed {stack.simulator.seed})"))
    for name, value in rows:
        display.line(f"  {name:<25} {value}")


def _what_bind_exposes(options: Options) -> str:
    password = "your gateway's real password" if options.gateway_is_far else "the gateway's password"
    cost = ", which may cost money" if options.gateway_is_far else ""
    return (
        f"BIND={options.bind}: every program that reaches this address can, without a password, read {password}, "
        f"read the messages' texts and numbers, and send messages{cost}. The phone page stays on loopback."
    )


def _tell_how_to_try(stack: LocalStack, display: Display) -> None:
    display.line(f"""
To try by hand, in another terminal:

  source {endpoints.PATH}

  # Put a message on the queue as another system does, with the AWS CLI or with Python
  aws sqs send-message --endpoint-url "$AWS_ENDPOINT_URL" --queue-url "$OUTBOUND_QUEUE_URL" \\
      --message-body '{{"destination": "+61491570006", "content": "Hello"}}'
  .venv/bin/python -c 'import boto3, os; boto3.client("sqs").send_message(QueueUrl=os.environ["OUTBOUND_QUEUE_URL"],
      MessageBody="{{\\"destination\\": \\"+447700900801\\", \\"content\\": \\"Will you come?\\"}}")'

  # Call back as the gateway does
  post() {{ printf 'user = "%s:%s"\\n' "$CALLBACK_USERNAME" "$CALLBACK_PASSWORD" |
      curl -K - -i -H 'Content-Type: application/json' "$@"; }}
  post "$STATUS_CALLBACK_URL" -d '{{"message_id": "497f6eca-6276-4993-bfeb-53cbbbba6f08", "status": "received"}}'
  post "$REPLY_CALLBACK_URL" \\
      -d '{{"id": "7d3a1c62-0f0e-4a25-9a8c-1f8b7a6f5e21", "source": "+61491570006", "content": "Yes please"}}'

  # Read what became of it: what we did, what the gateway reports, what needs an operator
  aws dynamodb scan --endpoint-url "$AWS_ENDPOINT_URL" --table-name "$SEND_LEDGER_TABLE_NAME"
  aws dynamodb scan --endpoint-url "$AWS_ENDPOINT_URL" --table-name "$MESSAGES_TABLE_NAME"
  aws sqs receive-message --endpoint-url "$AWS_ENDPOINT_URL" --queue-url "$DEAD_LETTER_QUEUE_URL" \\
      --message-attribute-names All""")
    if stack.simulator is not None:
        display.line("""
  # Numbers that make the gateway behave badly, and a switch for all numbers (docs/gateway-simulator.md)
  .venv/bin/python -m local.simulator --numbers
  curl "$SIMULATOR_CONTROL_URL/faults" -d '{"scenario": "unavailable"}'
  curl "$SIMULATOR_CONTROL_URL/faults" -X DELETE""")


def _tell_next_steps(at_work: str, display: Display) -> None:
    """Print the last lines, which the user sees without scrolling."""
    display.line(f"""
It stays up until Ctrl-C; what happens to messages shows below. Next, in another terminal (docs/cli.md):

  As a sender, queue a message and follow it:   .venv/bin/optus-sms send +61491570006 "Hello" --follow
  As an operator, see what needs you, and why:  .venv/bin/optus-sms dead-letters
  {at_work}
""")


@contextlib.contextmanager
def _function_log() -> Iterator[LogSink]:
    """Write the functions' log lines to a file, each with the function's name before it."""
    private_file.create(LOG_PATH)
    lock = threading.Lock()
    with LOG_PATH.open("w", encoding="utf-8", buffering=1) as file:

        def write(function_name: str, line: str) -> None:
            with lock:
                if not file.closed:
                    file.write(f"{function_name} {line}\n")

        yield write
