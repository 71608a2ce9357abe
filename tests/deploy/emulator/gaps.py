"""Features that the emulator lacks for this template. Each function fills a gap; `test_gaps.py` notices when the
emulator has it.

tests/README.md lists the gaps that stay open.
"""

import json
import os
import re
import string
import threading
from collections.abc import Callable
from typing import Any, Final

import ministack.app
import ministack.services.apigateway_v1 as api_gateway
import ministack.services.cloudformation.provisioners as cloudformation
import ministack.services.lambda_svc as lambda_service
from ministack.core import iam_actions, lambda_runtime
from ministack.services import cloudwatch, eventbridge

_TYPES: Final = cloudformation._RESOURCE_HANDLERS
_gaps: list[Callable[[], None]] = []


def gap(fills: Callable[[], None]) -> Callable[[], None]:
    """Mark a function that fills a gap."""
    _gaps.append(fills)
    return fills


def fill() -> None:
    """Fill all gaps, and speed up the schedules."""
    for each in _gaps:
        each()
    _hurry_schedules(float(os.environ["SCHEDULE_SPEED"]))


@gap
def event_bus_policies() -> None:
    """`AWS::Events::EventBusPolicy` is unknown."""

    def create(_logical_id: str, properties: dict[str, Any], _stack: str) -> tuple[str, dict[str, str]]:
        bus, sid = properties["EventBusName"], properties["StatementId"]
        policy = eventbridge._event_bus_policies.get(bus) or {"Version": "2012-10-17", "Statement": []}
        others = [statement for statement in policy["Statement"] if statement.get("Sid") != sid]
        statement = {"Sid": sid, **properties["Statement"]}
        eventbridge._event_bus_policies[bus] = {**policy, "Statement": [*others, statement]}
        return f"{bus}|{sid}", {}

    _TYPES["AWS::Events::EventBusPolicy"] = {"create": create, "delete": _nothing}


@gap
def secret_policies() -> None:
    """`AWS::SecretsManager::ResourcePolicy` is unknown."""

    def create(_logical_id: str, properties: dict[str, Any], _stack: str) -> tuple[str, dict[str, str]]:
        secret, policy = properties["SecretId"], json.dumps(properties["ResourcePolicy"])
        status, _, body = cloudformation._sm._put_resource_policy({"SecretId": secret, "ResourcePolicy": policy})
        if status >= 400:
            raise ValueError(f"{secret}: {body!r}")
        return secret, {"Id": secret}

    _TYPES["AWS::SecretsManager::ResourcePolicy"] = {"create": create, "delete": _nothing}


@gap
def saved_queries() -> None:
    """`AWS::Logs::QueryDefinition` is unknown; it is accepted, and nothing is saved."""
    _TYPES["AWS::Logs::QueryDefinition"] = {
        "create": lambda logical_id, _properties, _stack: (logical_id, {"QueryDefinitionId": logical_id}),
        "delete": _nothing,
    }


@gap
def alarms_on_metric_math() -> None:
    """An alarm with `Metrics` is refused. Here it becomes an alarm on the first metric, which is not the same alarm."""
    record = cloudformation._cw_metric_alarm_record

    def with_metrics(name: str, properties: dict[str, Any]) -> Any:
        if "Metrics" in properties:
            stat = next(each["MetricStat"] for each in properties["Metrics"] if "MetricStat" in each)
            first = {**stat["Metric"], "Period": stat["Period"], "Statistic": stat["Stat"]}
            properties = {**{key: value for key, value in properties.items() if key != "Metrics"}, **first}
        return record(name, properties)

    cloudformation._cw_metric_alarm_record = with_metrics


@gap
def ref_of_a_secret() -> None:
    """`Ref` of a secret gives its name, not its ARN."""
    create = _TYPES["AWS::SecretsManager::Secret"]["create"]

    def create_and_return_arn(*arguments: Any) -> tuple[str, dict[str, str]]:
        _name, attributes = create(*arguments)
        return attributes["Arn"], attributes

    _TYPES["AWS::SecretsManager::Secret"]["create"] = create_and_return_arn


@gap
def passwords_without_punctuation() -> None:
    """`ExcludePunctuation` of a generated secret has no effect."""
    secret_string = cloudformation._sm_secret_string

    def without_punctuation(properties: dict[str, Any]) -> Any:
        generate = properties.get("GenerateSecretString") or {}
        if str(generate.get("ExcludePunctuation")).lower() == "true":
            excluded = generate.get("ExcludeCharacters", "") + string.punctuation
            properties = {**properties, "GenerateSecretString": {**generate, "ExcludeCharacters": excluded}}
        return secret_string(properties)

    cloudformation._sm_secret_string = without_punctuation


@gap
def numbers_of_a_mapping() -> None:
    """A Number parameter stays text, and the queue's poller fails at a `MaximumConcurrency` that is text."""
    mapping = _TYPES["AWS::Lambda::EventSourceMapping"]
    create, update = mapping["create"], mapping["update"]

    def numbers(properties: dict[str, Any]) -> dict[str, Any]:
        scaling = properties.get("ScalingConfig")
        if not scaling:
            return properties
        return {**properties, "ScalingConfig": {name: int(value) for name, value in scaling.items()}}

    mapping["create"] = lambda logical_id, new, stack: create(logical_id, numbers(new), stack)
    mapping["update"] = lambda own_id, old, new, stack: update(own_id, numbers(old), numbers(new), stack)


@gap
def request_validators_and_gateway_responses() -> None:
    """The body of a REST API loses its request validators, required parameters and gateway responses."""
    import_api = api_gateway._import_rest_api

    def complete(document: dict[str, Any], *rest: Any) -> str:
        api_id: str = import_api(document, *rest)
        validators = {
            name: json.loads(api_gateway._create_request_validator(api_id, {"name": name, **validator})[2])["id"]
            for name, validator in document.get("x-amazon-apigateway-request-validators", {}).items()
        }
        for kind, response in document.get("x-amazon-apigateway-gateway-responses", {}).items():
            api_gateway._put_gateway_response(api_id, kind, response)
        methods = {
            (resource["path"], name): method
            for resource in api_gateway._resources[api_id].values()
            for name, method in resource.get("resourceMethods", {}).items()
        }
        for path, operations in document["paths"].items():
            for name, operation in operations.items():
                method = methods[path, name.upper()]
                method["requestValidatorId"] = validators.get(operation.get("x-amazon-apigateway-request-validator"))
                for parameter in operation.get("parameters", []):
                    if parameter["in"] == "header":
                        header = f"method.request.header.{parameter['name']}"
                        method["requestParameters"][header] = parameter.get("required", False)
        return api_id

    api_gateway._import_rest_api = complete


@gap
def metrics_in_logs() -> None:
    """Metrics in CloudWatch's embedded format, which the functions log, are not recorded."""
    emit = lambda_service._emit_lambda_logs

    def record(line: str) -> None:
        fields = json.loads(line)
        for directive in fields["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                dimensions = {name: fields[name] for name in names}
                for metric in directive["Metrics"]:
                    values = fields[metric["Name"]]
                    for value in values if isinstance(values, list) else [values]:
                        cloudwatch.record_metric(
                            directive["Namespace"], metric["Name"], value, metric.get("Unit", "None"), dimensions
                        )

    def emit_and_record(function: Any, request_id: str, log: str, *rest: Any, **named: Any) -> Any:
        for line in (log or "").splitlines():
            if line.startswith('{"_aws"'):
                record(line)
        return emit(function, request_id, log, *rest, **named)

    lambda_service._emit_lambda_logs = emit_and_record


@gap
def permission_to_read_a_mapping() -> None:
    """`GetEventSourceMapping` needs the permission `lambda:ListEventSourceMappings`."""
    action_of = iam_actions._lambda_action

    def action(method: str, path: str) -> str | None:
        if method == "GET" and re.search(r"/event-source-mappings/[^/]+/?$", path):
            return "GetEventSourceMapping"
        found: str | None = action_of(method, path)
        return found

    iam_actions._lambda_action = action


@gap
def addresses_of_apis() -> None:
    """An API is served under a host name of the emulator's own, not under the one that `Ref` leads to in AWS."""
    ministack.app._EXECUTE_API_RE = re.compile(r"^([a-f0-9]+)\.execute-api\.[a-z0-9-]+\.amazonaws\.com(?::\d+)?$")


@gap
def authority_of_the_endpoint() -> None:
    """There is no /opt, where the template has Amazon's authorities: the functions trust the emulator's own."""
    _change_variables(lambda variables: {**variables, "AWS_CA_BUNDLE": os.environ["AWS_CA_BUNDLE"]})


@gap
def invocations_during_an_update() -> None:
    """An update kills functions amid an invocation, and serves nothing meanwhile. In AWS they end with the old code."""
    kill = lambda_runtime.kill_workers

    def kill_when_they_are_free(workers: list[Any]) -> None:
        for worker in workers:
            with worker._lock:  # held as long as it has an invocation
                kill([worker])

    lambda_runtime.kill_workers = lambda workers: threading.Thread(
        target=kill_when_they_are_free, args=[list(workers)], daemon=True
    ).start()


def _hurry_schedules(speed: float) -> None:
    """Not a gap. Fires the schedules faster, and lets each check count however soon it comes, as in the local stack."""
    seconds, least = eventbridge._parse_rate_seconds, "LEAST_SECONDS_BETWEEN_CHECKS"
    eventbridge._SCHEDULER_TICK_INTERVAL /= speed
    eventbridge._parse_rate_seconds = lambda rate: (every := seconds(rate)) and every / speed
    _change_variables(lambda old: {**old, least: str(int(int(old[least]) / speed))} if least in old else old)


def _change_variables(change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Change the environment variables of every function when it starts."""
    spawn = lambda_runtime.Worker._spawn

    def changed(worker: Any) -> Any:
        variables = change(worker.config["Environment"]["Variables"])
        worker.config = {**worker.config, "Environment": {"Variables": variables}}
        return spawn(worker)

    lambda_runtime.Worker._spawn = changed


def _nothing(_physical_id: str, _properties: dict[str, Any]) -> None:
    pass
