"""The whole stack on this machine: AWS's services, the gateway, the functions, and all that invokes the functions.

`make run` and the integration tests use the same `LocalStack`.
"""

import contextlib
import errno
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

from local.aws.background_thread import BackgroundThread
from local.aws.callback_api import CallbackApi, api_config, no_page
from local.aws.event_source import EventSource, EventSourceConfig
from local.aws.function import FunctionConfig, Invocation, LocalFunction, LogSink
from local.aws.mapping_switch import MappingSwitch
from local.aws.metrics import MetricRecorder
from local.aws.resources import Attributes, Creator, create_resources, local_client
from local.aws.schedules import Schedule, seconds_between
from local.aws.stream_source import StreamSource, StreamSourceConfig
from local.guard import CONTAINER_HOST, refusal_of_request
from local.simulator.config import LOOPBACK, GatewayConfig
from local.simulator.server import GatewaySimulator
from local.template import ACCOUNT_ID, REGION, STACK_NAME, TEMPLATE_PATH, Resource, Template, load_template

CALLBACK_PASSWORD = "example-password-for-local-use"
"""The password in the local CallbackSecret, so that the files in events/ work; a deployed stack generates one."""
FUNCTION_CONCURRENCY = 4
"""The concurrency if no event source limits it. AWS would start a thousand; two cores gain nothing from more."""
PORT_OF = {"AWS services": 0, "callback API": 1, "gateway simulator": 2, "simulator control": 3, "phone page": 4}
"""Each part's offset from `StackConfig.port`."""
LOOPBACK_HOSTS = (LOOPBACK, "localhost", "::1")
_EXECUTE_API = re.compile(r"https://[a-z0-9]+\.execute-api\.[a-z0-9-]+\.amazonaws\.com")


SourceConfig = EventSourceConfig | StreamSourceConfig


class StackError(Exception):
    """The local stack can't start; the text has the reason and the fix."""


@dataclass(frozen=True)
class ExternalGateway:
    """A gateway to use instead of the simulator."""

    base_url: str
    application: str
    password: str = field(repr=False)

    @property
    def is_far(self) -> bool:
        """Whether messages would leave this machine, and can cost money."""
        return urlsplit(self.base_url).hostname not in LOOPBACK_HOSTS


@dataclass(frozen=True)
class StackConfig:
    """The settings of a local stack. Port 0: free ports; else each part's port is `port` plus PORT_OF."""

    template_path: Path = TEMPLATE_PATH
    parameters: Mapping[str, str] = field(default_factory=dict)
    bind: str = LOOPBACK
    port: int = 0
    gateway: ExternalGateway | None = None
    simulator: GatewayConfig = field(default_factory=GatewayConfig)
    """Settings of the simulator; the stack fills in addresses, ports and callback URLs."""
    tls: bool = False
    """Whether the simulator uses TLS. The functions trust its authority by the same setting as a company's own."""
    schedule_speed: float = 1.0
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of every function, besides the template's."""
    log: LogSink = lambda _name, _line: None
    progress: Callable[[str], None] = lambda _step: None


class LocalStack:
    """A running local stack, as a context manager; everything that it started ends with it.

    Raise StackError if it can't start.
    """

    def __init__(self, config: StackConfig | None = None) -> None:
        self.config = config or StackConfig()
        self.host = reachable_address(self.config.bind)
        self.endpoint_url = ""
        self.api_url = ""
        self.gateway_url = ""
        self.simulator: GatewaySimulator | None = None
        self.outputs: dict[str, str] = {}
        self.functions: dict[str, LocalFunction] = {}
        self.event_sources: dict[str, EventSource] = {}
        """By the logical ID of the queue."""
        self.stream_sources: list[StreamSource] = []
        self.on_activity: Callable[[], None] = lambda: None
        """Called after every invocation of a function: something may have changed."""
        self.on_taken: Callable[[list[dict[str, Any]]], None] = lambda _records: None
        """Called with the records of each batch from a queue, before its function gets them."""
        self.on_turned: Callable[[bool], None] = lambda _enabled: None
        """Called after a queue's event source was enabled or disabled through Lambda's API."""
        self._attributes: Attributes = {}
        self._resolve: Callable[[Any], Any] = lambda value: value
        self._threads: list[BackgroundThread] = []
        self._metrics = MetricRecorder(None)
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as exit_if_failed:
            exit_if_failed.callback(self._exit.close)
            self._start()
            exit_if_failed.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def client(self, service: str) -> Any:
        """Return a new boto3 client of the local AWS endpoint."""
        return local_client(service, self.endpoint_url)

    def secret(self, logical_id: str) -> dict[str, str]:
        """Return the fields of a secret that the template creates."""
        secret = self.client("secretsmanager").get_secret_value(SecretId=self._attributes[logical_id]["Ref"])
        fields: dict[str, str] = json.loads(secret["SecretString"])
        return fields

    def _start(self) -> None:
        # Clean-up goes in reverse: polling stops, functions end, then the services that they call, then threads.
        self._exit.callback(self._join_threads)
        aws_listener, api_listener = self._listen("AWS services"), self._listen("callback API")
        self.api_url = self._url(api_listener)
        self._bind_gateway()
        self._start_aws(aws_listener)
        self.config.progress("reading template.yaml")
        template = load_template(self.config.template_path, self.config.parameters)
        self.config.progress("creating its resources")
        self._attributes = create_resources(template, self._creator())
        self._resolve = partial(template.resolve, attributes=self._attributes)
        self.outputs = {
            name: self._local_addresses(self._resolve(output["Value"])) for name, output in template.outputs.items()
        }
        self._start_simulator()
        self.config.progress("starting the functions")
        self._metrics = MetricRecorder(self._client_without_retries("cloudwatch"))
        self._run(self._metrics)
        sources = list(self._event_sources_of(template))
        self._make_functions(template, sources)
        self._exit.callback(self._start_api(template, api_listener).stop)
        self._exit.callback(self._close_functions)
        for function in self.functions.values():
            function.warm_up()
        for name, config in sources:
            self._start_event_source(name, config)
        self._start_schedules(template)

    def _join_threads(self) -> None:
        for thread in self._threads:
            thread.join()

    def _close_functions(self) -> None:
        for function in self.functions.values():
            function.close()

    def _listen(self, part: str) -> socket.socket:
        listener = listen(self.config.bind, self.port(part), part)
        self._exit.callback(listener.close)
        return listener

    def port(self, part: str) -> int:
        """Return the port of a part of PORT_OF; 0 for any port."""
        return self.config.port + PORT_OF[part] if self.config.port else 0

    def _url(self, listener: socket.socket) -> str:
        return f"http://{self.host}:{listener.getsockname()[1]}"

    def _start_aws(self, listener: socket.socket) -> None:
        self.config.progress("starting AWS's services")
        self.endpoint_url = self._url(listener)
        self._exit.callback(_stop_process, start_emulator(listener, self.host))

    def _creator(self) -> Creator:
        gateway = self.config.gateway or self.config.simulator
        credentials = {"application": gateway.application, "password": gateway.password}
        if self.simulator is not None and self.simulator.ca_certificate:
            credentials["ca_certificate"] = self.simulator.ca_certificate
        return Creator(
            self.endpoint_url,
            secret_values={"GatewaySecret": json.dumps(credentials)},
            generated_passwords={"CallbackSecret": CALLBACK_PASSWORD},
        )

    def _local_addresses(self, value: Any) -> Any:
        """Return the local API's address for each address of API Gateway."""
        return _EXECUTE_API.sub(self.api_url, value) if isinstance(value, str) else value

    def _bind_gateway(self) -> None:
        if self.config.gateway is not None:
            self.gateway_url = self.config.gateway.base_url
            return
        for part, host in (("gateway simulator", self.config.bind), ("simulator control", LOOPBACK)):
            listen(host, self.port(part), part).close()  # raises the error that names the port and the fix
        self.simulator = GatewaySimulator(
            replace(
                self.config.simulator,
                bind=self.config.bind,
                port=self.port("gateway simulator"),
                control_port=self.port("simulator control"),
                tls_hosts=(self.host, LOOPBACK, "localhost", CONTAINER_HOST) if self.config.tls else (),
            )
        )
        self._exit.callback(self.simulator.stop)
        self.gateway_url = self._reachable(self.simulator.url)

    def _start_simulator(self) -> None:
        if self.simulator is None:
            return
        secret = self.secret("CallbackSecret")
        credentials = f"{quote(secret['username'], safe='')}:{quote(secret['password'], safe='')}"
        urls = (
            self.outputs[name].replace("http://", f"http://{credentials}@", 1)
            for name in ("StatusCallbackUrl", "ReplyCallbackUrl")
        )
        self.simulator.set_callback_urls(*urls)
        self.simulator.start()

    def _reachable(self, simulator_url: str) -> str:
        return simulator_url.replace(f"//{self.config.bind}:", f"//{self.host}:")

    def _make_functions(self, template: Template, sources: list[tuple[str, SourceConfig]]) -> None:
        for resource in template.of_type("AWS::Lambda::Function"):
            own = [config.concurrency for name, config in sources if name == resource.logical_id]
            config = self._function_config(template, resource, sum(own) or FUNCTION_CONCURRENCY)
            self.functions[resource.logical_id] = LocalFunction(config, self._log)

    def _function_config(self, template: Template, resource: Resource, concurrency: int) -> FunctionConfig:
        properties = resource.properties
        return FunctionConfig(
            name=resource.logical_id,
            arn=self._attributes[resource.logical_id]["Arn"],
            handler=properties["Handler"],
            code=self._folder(properties["Code"]),
            layers=tuple(
                self._layer(template.resources[layer["Ref"]].properties["Content"])
                for layer in properties.get("Layers", [])
            ),
            environment=self._environment(properties),
            timeout_seconds=float(properties.get("Timeout", 3)),
            memory_mb=int(properties.get("MemorySize", 128)),
            concurrency=concurrency,
        )

    def _folder(self, code: Mapping[str, str]) -> Path:
        return (self.config.template_path.parent / code["S3Key"]).resolve()

    def _layer(self, content: Mapping[str, str]) -> Path:
        """Return the folder that the layer's build would copy to `python/`."""
        return self._folder(content) / "src"

    def _environment(self, properties: Mapping[str, Any]) -> dict[str, str]:
        variables = self._resolve(properties.get("Environment", {}).get("Variables", {}))
        own = {name: self._local_addresses(value) for name, value in variables.items()}
        if "GATEWAY_BASE_URL" in own:
            own["GATEWAY_BASE_URL"] = self.gateway_url
            if self.simulator is not None and not self.config.tls:
                own["GATEWAY_ALLOW_HTTP"] = "true"
        if "LEAST_SECONDS_BETWEEN_CHECKS" in own:  # as often as the schedule
            own["LEAST_SECONDS_BETWEEN_CHECKS"] = str(
                int(int(own["LEAST_SECONDS_BETWEEN_CHECKS"]) / self.config.schedule_speed)
            )
        if "SERVICE_STATUS_URL" in own:
            own["SERVICE_STATUS_URL"] = self._service_status_url()
        return {**own, **self.aws_environment(), **self.config.environment}

    def _service_status_url(self) -> str:
        """Return the simulator's status URL; empty for another gateway, whose URL is unknown."""
        if self.simulator is None:
            return ""
        return f"{self._reachable(self.simulator.services_url)}/status?service=restv2"

    def aws_environment(self) -> dict[str, str]:
        """Return the variables by which any AWS SDK uses the local endpoint."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def _event_sources_of(self, template: Template) -> Iterator[tuple[str, SourceConfig]]:
        """Return each event source mapping's settings, with the logical ID of its function."""
        queues = {
            self._attributes[queue.logical_id]["Arn"]: self._attributes[queue.logical_id]["QueueUrl"]
            for queue in template.of_type("AWS::SQS::Queue")
        }
        for resource in template.of_type("AWS::Lambda::EventSourceMapping"):
            properties = self._resolve(resource.properties)
            function, source_arn = _name_of(properties["FunctionName"]), properties["EventSourceArn"]
            if source_arn in queues:
                mapping_id = self._attributes[resource.logical_id]["Ref"]
                yield function, EventSourceConfig.from_properties(properties, queues[source_arn], mapping_id)
            elif ":dynamodb:" in source_arn:
                yield function, StreamSourceConfig.from_properties(properties, queues)
            else:
                raise StackError(f"{resource.logical_id}: the local stack feeds functions from queues and streams only")

    def _invoker(self, function: str) -> Callable[[Any], Invocation]:
        """Return the function that invokes a Lambda function, by name or ARN."""
        return partial(self._invoke, self.functions[_name_of(function)])

    def _invoke(self, function: LocalFunction, event: Any) -> Invocation:
        invocation = function.invoke(event)
        for source in self.stream_sources:
            source.wake()
        self.on_activity()
        return invocation

    def _feed(self, invoke: Callable[[Any], Invocation], event: dict[str, Any]) -> Invocation:
        self.on_taken(event["Records"])
        return invoke(event)

    def _start_api(self, template: Template, listener: socket.socket) -> CallbackApi:
        stage = next(template.of_type("AWS::ApiGateway::Stage"))
        api = template.resources[stage.properties["RestApiId"]["Ref"]]
        config = api_config(
            self._attributes[api.logical_id]["Ref"],
            stage.properties["StageName"],
            self._resolve(api.properties["Body"]),
        )
        invokers = {route.function_arn: self._invoker(route.function_arn) for route in config.routes.values()}
        guard = refusal_of_request if self.config.gateway is None else no_page
        served = CallbackApi(config, listener, invokers, guard)
        served.start()
        return served

    def _start_event_source(self, function: str, config: SourceConfig) -> None:
        invoke, sqs = self._invoker(function), self._client_without_retries("sqs")
        if isinstance(config, StreamSourceConfig):
            stream = StreamSource(config, invoke, self._client_without_retries("dynamodbstreams"), sqs)
            self.stream_sources.append(stream)
            self._run(stream)
            return
        source = EventSource(config, partial(self._feed, invoke), sqs)
        self.event_sources[config.queue_arn.rpartition(f":{STACK_NAME}-")[2]] = source
        self._run(source)
        client = self._client_without_retries("lambda")
        self._run(MappingSwitch(source, client, self._turned))

    def _turned(self, enabled: bool) -> None:
        self.on_turned(enabled)

    def _client_without_retries(self, service: str) -> Any:
        return local_client(service, self.endpoint_url, max_attempts=1)

    def _log(self, function_name: str, line: str) -> None:
        self._metrics.take(line)
        self.config.log(function_name, line)

    def _run(self, thread: BackgroundThread) -> None:
        self._threads.append(thread)
        self._exit.callback(thread.stop)
        thread.start()

    def _start_schedules(self, template: Template) -> None:
        for rule in template.of_type("AWS::Events::Rule"):
            properties = self._resolve(rule.properties)
            if "ScheduleExpression" not in properties:
                raise StackError(f"{rule.logical_id}: the local stack does not fire rules with a pattern")
            seconds = seconds_between(properties["ScheduleExpression"]) / self.config.schedule_speed
            for target in properties["Targets"]:
                event = json.loads(target["Input"]) if "Input" in target else None
                self._run(
                    Schedule(self._attributes[rule.logical_id]["Arn"], seconds, self._invoker(target["Arn"]), event)
                )


def listen(host: str, port: int, part: str) -> socket.socket:
    """Return a listening socket. If the port is taken, raise StackError that names it and the fix."""
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StackError(
                f"port {port} (for the {part}) is in use on {host}: end that program, or set PORT=…"
            ) from error
        raise StackError(f"cannot listen on {host}, port {port} (for the {part}): {error.strerror or error}") from error


def start_emulator(listener: socket.socket, host: str) -> subprocess.Popen[bytes]:
    """Start the process that emulates AWS's services, and give it the socket. ``host``: the clients' name of it."""
    environment = {
        # Only these variables of the shell: the emulator has many switches, some with names that other programs use
        # too.
        **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
        "PYTHONPATH": os.pathsep.join(sys.path),
        "GATEWAY_PORT": str(listener.getsockname()[1]),
        "MINISTACK_HOST": host,
        "MINISTACK_REGION": REGION,
        "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
        "LOG_LEVEL": "ERROR",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "local.aws.emulator_server", str(listener.fileno())],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=(listener.fileno(),),
        start_new_session=True,  # this process handles Ctrl-C in the terminal
    )
    listener.close()  # the process has its own copy; if it dies, connections are refused at once
    return process


def _name_of(function: str) -> str:
    """Return a function's name, which is its logical ID here, from its ARN or name."""
    return function.rpartition(":")[2]


def reachable_address(bind: str) -> str:
    """Return the address by which others reach a listener on `bind`: `bind` itself; for 0.0.0.0 this machine's own."""
    if bind != "0.0.0.0":
        return bind
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing; it only finds the local address that would be used
        return str(probe.getsockname()[0])
    return LOOPBACK


def _stop_process(process: subprocess.Popen[bytes]) -> None:
    with process:
        process.kill()
