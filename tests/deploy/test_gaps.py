"""Each gap that `emulator/gaps.py` fills is there without it. If one is closed, remove its function and its test."""

import io
import json
import os
import re
import string
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from botocore.exceptions import ClientError

from local.template import ACCOUNT_ID, REGION
from tests.support.emulator import Emulator, emulator, skip_without_emulator
from tests.support.waiting import eventually

GAPS = Path(__file__).with_name("emulator") / "gaps.py"
Create = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """The emulator with its gaps."""
    skip_without_emulator()
    with emulator(tmp_path_factory.mktemp("bare"), fill_gaps=False) as running:
        yield running


@pytest.fixture
def create(bare: Emulator, request: pytest.FixtureRequest) -> Create:
    """Create a stack of one resource, and return its status and the resource's physical ID."""
    client, name = bare.client("cloudformation"), request.function.__name__.replace("_", "-")

    def status() -> str:
        found: str = client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
        return "" if found.endswith("IN_PROGRESS") else found

    def create(kind: str, **properties: Any) -> tuple[str, str]:
        most = {"Type": "Number", "Default": "3"}
        template = {"Parameters": {"Most": most}, "Resources": {"One": {"Type": kind, "Properties": properties}}}
        client.create_stack(StackName=name, TemplateBody=json.dumps(template))
        ended = eventually(status, "created or not")
        resources = client.describe_stack_resources(StackName=name)["StackResources"]
        return ended, "".join(resource.get("PhysicalResourceId", "") for resource in resources)

    return create


@pytest.fixture
def run(bare: Emulator, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run the body of a function, with a layer that has the file `a-file`, and return its result."""

    def archive(name: str, text: str) -> dict[str, bytes]:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(name, text)
        return {"ZipFile": file.getvalue()}

    def run(body: str) -> Any:
        client, name = bare.client("lambda"), request.function.__name__
        role = bare.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        layer = client.publish_layer_version(LayerName=name, Content=archive("a-file", ""))["LayerVersionArn"]
        client.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Handler="app.handler",
            Role=role,
            Layers=[layer],
            Code=archive("app.py", f"def handler(event, context):\n    {body}"),
        )
        return json.loads(client.invoke(FunctionName=name)["Payload"].read())

    return run


def test_every_gap_has_its_test() -> None:
    gaps = re.findall(r"^@gap\ndef (\w+)", GAPS.read_text(), re.MULTILINE)
    tests = [name.removeprefix("test_") for name in globals() if name.startswith("test_")]
    assert gaps
    assert [*gaps, "every_gap_has_its_test"] == [*tests[1:], tests[0]]


def test_event_bus_policies(create: Create) -> None:
    with pytest.raises(ClientError, match="Unrecognized resource types"):
        create("AWS::Events::EventBusPolicy", EventBusName="default", StatementId="one")


def test_secret_policies(create: Create) -> None:
    with pytest.raises(ClientError, match="Unrecognized resource types"):
        create("AWS::SecretsManager::ResourcePolicy", SecretId="one")


def test_saved_queries(create: Create) -> None:
    with pytest.raises(ClientError, match="Unrecognized resource types"):
        create("AWS::Logs::QueryDefinition", Name="one", QueryString="fields @message")


def test_alarms_on_metric_math(create: Create) -> None:
    stat = {"Metric": {"Namespace": "A", "MetricName": "b"}, "Period": 60, "Stat": "Sum"}
    metrics = [{"Id": "a", "MetricStat": stat, "ReturnData": False}, {"Id": "b", "Expression": "FILL(a, 0)"}]
    compared = {"Threshold": 1, "ComparisonOperator": "LessThanThreshold", "EvaluationPeriods": 1}
    assert create("AWS::CloudWatch::Alarm", Metrics=metrics, **compared)[0] == "ROLLBACK_COMPLETE"


def test_ref_of_a_secret(create: Create) -> None:
    status, secret = create("AWS::SecretsManager::Secret", SecretString="{}")
    assert status == "CREATE_COMPLETE"
    assert not secret.startswith("arn:")


def test_passwords_without_punctuation(bare: Emulator, create: Create) -> None:
    generate = {"PasswordLength": 400, "ExcludePunctuation": True}
    _, secret = create("AWS::SecretsManager::Secret", GenerateSecretString=generate)
    password = bare.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
    assert set(password) & set(string.punctuation)


def test_numbers_of_a_mapping(bare: Emulator, create: Create) -> None:
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:none"
    most = {"MaximumConcurrency": {"Ref": "Most"}}
    mapping = {"FunctionName": "none", "EventSourceArn": arn, "Enabled": False, "ScalingConfig": most}
    _, made = create("AWS::Lambda::EventSourceMapping", **mapping)
    client, responses = bare.client("lambda"), []
    event = "after-call.lambda.GetEventSourceMapping"
    client.meta.events.register(event, lambda http_response, **_: responses.append(json.loads(http_response.text)))
    client.get_event_source_mapping(UUID=made)  # which boto3 would turn into a number
    assert responses[0]["ScalingConfig"] == {"MaximumConcurrency": "3"}


def test_request_validators_and_gateway_responses(bare: Emulator, create: Create) -> None:
    integration = {"type": "MOCK"}
    header = {"name": "Authorization", "in": "header", "required": True, "type": "string"}
    body = {
        "swagger": "2.0",
        "info": {"title": "an-api", "version": "1"},
        "x-amazon-apigateway-request-validators": {"headers": {"validateRequestParameters": True}},
        "x-amazon-apigateway-gateway-responses": {"DEFAULT_4XX": {"statusCode": 404}},
        "paths": {
            "/": {
                "post": {
                    "parameters": [header],
                    "x-amazon-apigateway-request-validator": "headers",
                    "x-amazon-apigateway-integration": integration,
                }
            }
        },
    }
    _, api = create("AWS::ApiGateway::RestApi", Body=body)
    client = bare.client("apigateway")
    root = client.get_resources(restApiId=api)["items"][0]["id"]
    method = client.get_method(restApiId=api, resourceId=root, httpMethod="POST")
    assert not method.get("requestParameters")
    assert client.get_request_validators(restApiId=api)["items"] == []
    assert all(response["defaultResponse"] for response in client.get_gateway_responses(restApiId=api)["items"])


def test_metrics_in_logs(bare: Emulator, run: Callable[..., Any]) -> None:
    directive = {"Namespace": "Logged", "Dimensions": [[]], "Metrics": [{"Name": "Ones"}]}
    line = json.dumps({"_aws": {"Timestamp": 0, "CloudWatchMetrics": [directive]}, "Ones": 1})
    run(f"print({line!r})")
    assert bare.client("cloudwatch").list_metrics(Namespace="Logged")["Metrics"] == []


def test_permission_to_read_a_mapping(bare: Emulator) -> None:
    reader = bare.as_user("mapping", {"Action": "lambda:GetEventSourceMapping", "Resource": "*"}).client("lambda")
    with pytest.raises(ClientError, match="ListEventSourceMappings"):
        reader.get_event_source_mapping(UUID=str(uuid4()))


def test_addresses_of_apis(bare: Emulator) -> None:
    client = bare.client("apigateway")
    api = client.create_rest_api(name="named")["id"]
    root = client.get_resources(restApiId=api)["items"][0]["id"]
    client.put_method(restApiId=api, resourceId=root, httpMethod="GET", authorizationType="NONE")
    client.put_integration(restApiId=api, resourceId=root, httpMethod="GET", type="MOCK")
    client.create_deployment(restApiId=api, stageName="v1")
    host = f"{api}.execute-api.{REGION}.amazonaws.com"
    there = requests.get(f"{bare.url}/_aws/execute-api/{api}/v1/", verify=str(bare.authority), timeout=10)
    named = requests.get(f"{bare.url}/v1/", headers={"Host": host}, verify=str(bare.authority), timeout=10)
    assert (there.status_code, named.status_code) == (200, 403)


def test_authority_of_the_endpoint(run: Callable[..., Any]) -> None:
    assert run("import os; return os.path.exists('/opt/a-file')") is False


def test_invocations_during_an_update(
    bare: Emulator, run: Callable[..., Any], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(run, f"return open({str(pipe)!r}).read()")
        with pipe.open("w"):  # as soon as the function reads, which gets nothing until the end of the block
            bare.client("lambda").update_function_configuration(FunctionName=request.function.__name__, Timeout=60)
    assert "errorMessage" in result.result()
