"""local/template.py: CloudFormation's result for a template with one set of parameters."""

from pathlib import Path
from typing import Any

import pytest

from local.template import CODE_BUCKET, Template, TemplateError, load_template, translate

QUEUE: dict[str, Any] = {"Type": "AWS::SQS::Queue"}
CREATED = {"Queue": {"Ref": "https://sqs.example/queue", "Arn": "arn:aws:sqs:queue"}}


def template(**sections: Any) -> dict[str, Any]:
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Parameters": {
            "Color": {"Type": "String", "Default": "red", "AllowedValues": ["red", "blue"]},
            "Sizes": {"Type": "CommaDelimitedList", "Default": "1, 2"},
        },
        "Mappings": {"Codes": {"red": {"hex": "f00"}, "blue": {"hex": "00f"}}},
        "Conditions": {
            "IsBlue": {"Fn::Equals": [{"Ref": "Color"}, "blue"]},
            "IsNotBlue": {"Fn::Not": [{"Condition": "IsBlue"}]},
            "Both": {"Fn::And": [{"Condition": "IsBlue"}, {"Condition": "IsNotBlue"}]},
            "Either": {"Fn::Or": [{"Condition": "IsBlue"}, {"Condition": "IsNotBlue"}]},
        },
        "Resources": {"Queue": QUEUE},
    } | sections


def resolved(value: Any, parameters: dict[str, str] | None = None) -> Any:
    return translate(template(), parameters or {}).resolve(value, CREATED)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": "Color"}, "red"),
        ({"Ref": "Sizes"}, ["1", "2"]),
        ({"Ref": "AWS::Region"}, "ap-southeast-2"),
        ({"Ref": "Queue"}, "https://sqs.example/queue"),
        ({"Fn::GetAtt": ["Queue", "Arn"]}, "arn:aws:sqs:queue"),
        ({"Fn::GetAtt": "Queue.Arn"}, "arn:aws:sqs:queue"),
        ({"Fn::Sub": "${Color}/${Queue.Arn}/${AWS::Region}"}, "red/arn:aws:sqs:queue/ap-southeast-2"),
        ({"Fn::Sub": "${!Color} stays"}, "${Color} stays"),
        ({"Fn::Sub": ["${Name}-${Color}", {"Name": {"Ref": "Queue"}}]}, "https://sqs.example/queue-red"),
        ({"Fn::Join": ["-", ["a", {"Ref": "Color"}]]}, "a-red"),
        ({"Fn::Select": [1, {"Fn::Split": [",", "a,b"]}]}, "b"),
        ({"Fn::FindInMap": ["Codes", {"Ref": "Color"}, "hex"]}, "f00"),
        ({"Fn::If": ["IsBlue", 1, 2]}, 2),
        ({"Fn::If": ["Either", 1, 2]}, 1),
        ({"Fn::If": ["Both", 1, 2]}, 2),
        ({"a": {"Ref": "AWS::NoValue"}, "b": [{"Ref": "AWS::NoValue"}, 1]}, {"b": [1]}),
        (
            {"Condition": {"Bool": {"aws:SecureTransport": "false"}}},
            {"Condition": {"Bool": {"aws:SecureTransport": "false"}}},
        ),
    ],
)
def test_references_are_resolved(value: Any, expected: Any) -> None:
    assert resolved(value) == expected


def test_a_branch_that_is_not_taken_needs_nothing() -> None:
    assert resolved({"Fn::If": ["IsBlue", {"Fn::GetAtt": ["Queue", "Unknown"]}, "none"]}) == "none"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"Ref": "Quue"}, "Quue is referred to, but is neither a parameter nor a resource"),
        ({"Fn::GetAtt": ["Queue", "Name"]}, "Queue has no attribute Name; known are Arn, Ref"),
        ({"Fn::If": ["IsGreen", 1, 2]}, "there is no condition IsGreen"),
        ({"Fn::ImportValue": "other"}, "Fn::ImportValue is not supported here"),
    ],
)
def test_what_cannot_be_resolved_is_named(value: Any, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        resolved(value)


def test_a_resource_that_does_not_exist_yet_is_named() -> None:
    with pytest.raises(TemplateError, match="Queue is needed, but it has not been created yet"):
        translate(template(), {}).resolve({"Ref": "Queue"}, {})


def test_only_references_to_resources_are_left_in_properties() -> None:
    queue = QUEUE | {
        "Properties": {
            "QueueName": {"Fn::Sub": "${Color}-queue"},
            "RedrivePolicy": {"deadLetterTargetArn": {"Fn::GetAtt": ["Dead", "Arn"]}},
            "Tags": [{"Key": "dead", "Value": {"Fn::Sub": "${Color}-${Dead}"}}],
        }
    }

    stack = translate(template(Resources={"Queue": queue, "Dead": QUEUE}), {})

    assert stack.resources["Queue"].properties == {
        "QueueName": "red-queue",
        "RedrivePolicy": {"deadLetterTargetArn": {"Fn::GetAtt": ["Dead", "Arn"]}},
        "Tags": [{"Key": "dead", "Value": {"Fn::Sub": "${Color}-${Dead}"}}],
    }


def test_conditions_leave_resources_and_outputs_out() -> None:
    document = template(
        Resources={"Queue": QUEUE | {"DependsOn": "Blue"}, "Blue": QUEUE | {"Condition": "IsBlue"}},
        Outputs={"BlueUrl": {"Condition": "IsBlue", "Value": {"Ref": "Blue"}}},
    )

    red, blue = translate(document, {}), translate(document, {"Color": "blue"})

    assert (set(red.resources), set(red.outputs), red.resources["Queue"].depends_on) == ({"Queue"}, set(), ())
    assert (set(blue.resources), set(blue.outputs)) == ({"Queue", "Blue"}, {"BlueUrl"})
    assert blue.resources["Queue"].depends_on == ("Blue",)


def test_policies_for_deletion_are_kept() -> None:
    document = template(Resources={"Queue": QUEUE | {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Delete"}})

    queue = translate(document, {}).resources["Queue"]

    assert (queue.deletion_policy, queue.update_replace_policy) == ("Retain", "Delete")


def test_what_sam_adds_is_there_and_code_stays_a_folder() -> None:
    function = {
        "Type": "AWS::Serverless::Function",
        "Properties": {
            "Runtime": "python3.13",
            "Handler": "app.lambda_handler",
            "CodeUri": "functions/example/",
            "Events": {"Messages": {"Type": "SQS", "Properties": {"Queue": {"Fn::GetAtt": ["Queue", "Arn"]}}}},
        },
    }

    stack = translate(template(Resources={"Queue": QUEUE, "Example": function}), {})

    assert stack.resources["Example"].properties["Code"] == {"S3Bucket": CODE_BUCKET, "S3Key": "functions/example"}
    (source,) = stack.of_type("AWS::Lambda::EventSourceMapping")
    assert source.properties["EventSourceArn"] == {"Fn::GetAtt": ["Queue", "Arn"]}


def test_what_sam_refuses_is_reported_with_its_reasons() -> None:
    with pytest.raises(TemplateError, match=r"Broken.*property Color not defined"):
        translate(template(Resources={"Broken": {"Type": "AWS::Serverless::Api", "Properties": {"Color": 1}}}), {})


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"Hue": "red"}, "the template has no parameter Hue; it has Color, Sizes"),
        ({"Color": "green"}, "Color='green': the value is not allowed"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict[str, str], reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        translate(template(), parameters)


def test_a_parameter_without_value_is_refused() -> None:
    with pytest.raises(TemplateError, match="no value for Name"):
        translate(template(Parameters={"Name": {"Type": "String"}}), {})


def test_rules_are_applied_when_their_condition_holds() -> None:
    rule = {
        "RuleCondition": {"Fn::Equals": [{"Ref": "Color"}, "blue"]},
        "Assertions": [
            {"Assert": {"Fn::Contains": [{"Ref": "Sizes"}, "3"]}, "AssertDescription": "blue needs size 3"},
        ],
    }
    document = template(Rules={"BlueIsLarge": rule})

    translate(document, {})
    translate(document, {"Color": "blue", "Sizes": "3"})
    with pytest.raises(TemplateError, match="BlueIsLarge: blue needs size 3"):
        translate(document, {"Color": "blue"})


def test_short_forms_and_dates_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(
        """
        AWSTemplateFormatVersion: 2010-09-09
        Transform: AWS::Serverless-2016-10-31
        Conditions:
          Always: !Not [!Equals [a, b]]
        Resources:
          Queue:
            Type: AWS::SQS::Queue
            Properties:
              QueueName: !If [Always, !Join ["-", [!Ref AWS::Region, queue]], !Ref AWS::NoValue]
              RedrivePolicy: { deadLetterTargetArn: !GetAtt Dead.Arn }
          Dead:
            Type: AWS::SQS::Queue
        """,
        encoding="utf-8",
    )

    stack: Template = load_template(path)

    assert stack.document["AWSTemplateFormatVersion"] == "2010-09-09"
    assert stack.resources["Queue"].properties == {
        "QueueName": "ap-southeast-2-queue",
        "RedrivePolicy": {"deadLetterTargetArn": {"Fn::GetAtt": ["Dead", "Arn"]}},
    }
