"""The stack as CloudFormation would make it: template.yaml, translated by SAM's translator and evaluated without AWS.

`make run` creates its resources from the result of `load_template`, and the template's tests check the same object, so
that the stack has only one description.
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import boto3
import yaml
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import intrinsics_multi_constructor

TEMPLATE_PATH: Final = Path(__file__).resolve().parent.parent / "template.yaml"
REGION: Final = "ap-southeast-2"
ACCOUNT_ID: Final = "123456789012"
STACK_NAME: Final = "optus-sms"
# A stand-in for the code's place in S3, which the translator requires. The key is the folder, relative to
# template.yaml.
CODE_BUCKET: Final = "local"

_PSEUDO_PARAMETERS: Final[Mapping[str, Any]] = {
    "AWS::AccountId": ACCOUNT_ID,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT_ID}:stack/{STACK_NAME}/0",
    "AWS::StackName": STACK_NAME,
    "AWS::URLSuffix": "amazonaws.com",
}
_NO_VALUE: Final = object()  # the value of {"Ref": "AWS::NoValue"}; containers leave it out
_SUB_VARIABLE: Final = re.compile(r"\$\{(!?)([^}]+)\}")


class TemplateError(ValueError):
    """The template, a parameter or a reference is invalid; the text names it and the reason."""


@dataclass(frozen=True)
class Parameter:
    """A template parameter with its value in this stack (always a string, as in CloudFormation)."""

    name: str
    type: str
    value: str
    definition: Mapping[str, Any]

    def parsed(self) -> str | list[str]:
        """Return the value of `Ref`: a list for list types, else the string, also for a Number (as CloudFormation)."""
        if self.type == "CommaDelimitedList" or self.type.startswith("List<"):
            return [item.strip() for item in self.value.split(",")]
        return self.value


@dataclass(frozen=True)
class Resource:
    """A resource of this stack. Its `properties` refer only to other resources.

    A function's `Code` is `{"S3Bucket": CODE_BUCKET, "S3Key": <folder relative to template.yaml>}`.
    """

    logical_id: str
    type: str
    properties: Mapping[str, Any]
    depends_on: tuple[str, ...] = ()
    deletion_policy: str | None = None
    update_replace_policy: str | None = None


@dataclass(frozen=True)
class Template:
    """The stack for one set of parameters, with conditions applied and parameters filled in.

    `outputs`: as in the template (value and description); `resolve` evaluates them once the resources exist.
    `document`: the translated CloudFormation template.
    """

    resources: Mapping[str, Resource]
    outputs: Mapping[str, Mapping[str, Any]]
    parameters: Mapping[str, Parameter]
    document: Mapping[str, Any]
    _evaluator: "_Evaluator" = field(repr=False)

    def of_type(self, resource_type: str) -> Iterator[Resource]:
        """Return the resources of a type, such as `AWS::SQS::Queue`."""
        return (resource for resource in self.resources.values() if resource.type == resource_type)

    def resolve(self, value: Any, attributes: Mapping[str, Mapping[str, str]]) -> Any:
        """Return `value` with every reference filled in.

        `attributes`: by logical ID, the value of `Ref` (under "Ref") and the `Fn::GetAtt` attributes of the existing
        resources. Raise TemplateError, which names the reference, if `value` needs one that does not exist.
        """
        return replace(self._evaluator, attributes=attributes).evaluate(value)


def load_template(path: Path = TEMPLATE_PATH, parameters: Mapping[str, str] | None = None) -> Template:
    """Return the stack that `path` describes with these parameters (the others have defaults). Raises TemplateError."""
    return translate(read_template(path), parameters or {})


def read_template(path: Path = TEMPLATE_PATH) -> dict[str, Any]:
    """Return the file as data, with `!Ref` and the like in their long form."""
    return cast(dict[str, Any], yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader))  # noqa: S506 - a SafeLoader


def translate(document: Mapping[str, Any], parameters: Mapping[str, str]) -> Template:
    """Do the same as `load_template` for a template that is data already. Raises TemplateError."""
    known = known_parameters(document, parameters)
    return evaluated(_translated(document, {name: parameter.value for name, parameter in known.items()}), known)


def evaluated(translated: Mapping[str, Any], known: Mapping[str, Parameter]) -> Template:
    """Return the stack of a template that is translated already, with these parameters. Raises TemplateError."""
    evaluator = _Evaluator(
        values={**_PSEUDO_PARAMETERS, **{name: parameter.parsed() for name, parameter in known.items()}},
        mappings=translated.get("Mappings", {}),
        conditions=translated.get("Conditions", {}),
        declared=frozenset(translated["Resources"]),
    )
    present = {name: body for name, body in translated["Resources"].items() if evaluator.holds(body.get("Condition"))}
    outputs = {
        name: body for name, body in translated.get("Outputs", {}).items() if evaluator.holds(body.get("Condition"))
    }
    return Template(
        resources={name: _resource(name, body, present, evaluator) for name, body in present.items()},
        outputs=cast(Mapping[str, Mapping[str, Any]], evaluator.evaluate(outputs)),
        parameters=known,
        document=translated,
        _evaluator=evaluator,
    )


def known_parameters(document: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Parameter]:
    """Return every parameter with its value. Raise TemplateError where CloudFormation would refuse, Rules included."""
    parameters = _parameters(document.get("Parameters", {}), given)
    _check_rules(document.get("Rules", {}), {name: parameter.parsed() for name, parameter in parameters.items()})
    return parameters


def _resource(name: str, body: Mapping[str, Any], present: Mapping[str, Any], evaluator: "_Evaluator") -> Resource:
    depends_on = body.get("DependsOn", [])
    names = [depends_on] if isinstance(depends_on, str) else depends_on
    return Resource(
        logical_id=name,
        type=body["Type"],
        properties=cast(Mapping[str, Any], evaluator.evaluate(body.get("Properties", {}))),
        # CloudFormation ignores a dependency on a resource that a condition leaves out.
        depends_on=tuple(other for other in names if other in present),
        deletion_policy=body.get("DeletionPolicy"),
        update_replace_policy=body.get("UpdateReplacePolicy"),
    )


def _translated(document: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    prepared = _with_code_in_s3(document)
    # An empty map keeps the translator from asking IAM for managed policies.
    translator = Translator({}, Parser(), boto_session=_session())
    try:
        translated = translator.translate(prepared, parameter_values=dict(values))
        translator.metrics.publish()  # to no receiver; unpublished metrics cause a warning at the end
        return cast(dict[str, Any], translated)
    except InvalidDocumentException as error:
        causes = [cause.message for cause in error.causes]
        raise TemplateError("\n".join([error.message, *causes])) from error


@cache
def _session() -> boto3.session.Session:
    """Return a session with a region, so that the translator looks for none; it makes no calls."""
    return boto3.session.Session(region_name=REGION)


def _with_code_in_s3(document: Mapping[str, Any]) -> dict[str, Any]:
    copied = cast(dict[str, Any], copy.deepcopy(document))
    for resource in copied["Resources"].values():
        properties = resource.get("Properties", {})
        for name in ("CodeUri", "ContentUri"):
            if isinstance(folder := properties.get(name), str):
                properties[name] = f"s3://{CODE_BUCKET}/{folder.rstrip('/')}"
    return copied


# Parameters and rules


def _parameters(definitions: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Parameter]:
    unknown = sorted(set(given) - set(definitions))
    if unknown:
        raise TemplateError(f"the template has no parameter {', '.join(unknown)}; it has {', '.join(definitions)}")
    missing = sorted(name for name in definitions if name not in given and "Default" not in definitions[name])
    if missing:
        raise TemplateError(f"no value for {', '.join(missing)}")
    return {
        name: _checked(Parameter(name, definition["Type"], str(given.get(name, definition.get("Default"))), definition))
        for name, definition in definitions.items()
    }


def _checked(parameter: Parameter) -> Parameter:
    """Return the parameter, if CloudFormation would accept its value."""
    definition, value = parameter.definition, parameter.value
    refused = (
        ("AllowedPattern" in definition and not re.fullmatch(definition["AllowedPattern"], value))
        or len(value) > definition.get("MaxLength", len(value))
        or ("AllowedValues" in definition and value not in map(str, definition["AllowedValues"]))
        or (parameter.type == "Number" and not _in_range(definition, value))
    )
    if refused:
        reason = definition.get("ConstraintDescription", "the value is not allowed")
        raise TemplateError(f"{parameter.name}={value!r}: {reason}")
    return parameter


def _in_range(definition: Mapping[str, Any], value: str) -> bool:
    try:
        number = float(value)
    except ValueError:
        return False
    return bool(definition.get("MinValue", number) <= number <= definition.get("MaxValue", number))


def _check_rules(rules: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise for parameters that break the template's Rules section."""
    evaluator = _Evaluator(values=values)
    for name, rule in rules.items():
        if not evaluator.evaluate(rule.get("RuleCondition", True)):
            continue
        for assertion in rule["Assertions"]:
            if not evaluator.evaluate(assertion["Assert"]):
                raise TemplateError(f"{name}: {assertion['AssertDescription']}")


# Intrinsic functions


@dataclass(frozen=True)
class _Evaluator:
    """Evaluates intrinsic functions. Without `attributes`, expressions that need a resource's attribute stay."""

    values: Mapping[str, Any]
    mappings: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    declared: frozenset[str] = frozenset()
    attributes: Mapping[str, Mapping[str, str]] | None = None

    def holds(self, condition: str | None) -> bool:
        """Return whether a named condition is true; without a name always True."""
        if condition is None:
            return True
        if condition not in self.conditions:
            raise TemplateError(f"there is no condition {condition}")
        return bool(self.evaluate(self.conditions[condition]))

    def evaluate(self, value: Any) -> Any:
        if isinstance(value, list):
            return [item for item in map(self.evaluate, value) if item is not _NO_VALUE]
        if not isinstance(value, Mapping):
            return value
        name = _intrinsic(value)
        if name is None:
            evaluated = {key: self.evaluate(item) for key, item in value.items()}
            return {key: item for key, item in evaluated.items() if item is not _NO_VALUE}
        if name == "Fn::If":
            condition, when_true, when_false = value[name]
            return self.evaluate(when_true if self.holds(condition) else when_false)
        return self._call(name, self.evaluate(value[name]))

    def _call(self, name: str, argument: Any) -> Any:
        if _is_pending(argument):
            return {name: argument}
        functions: Mapping[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Condition": self.holds,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": lambda a: a[0].join(map(str, a[1])),
            "Fn::Select": lambda a: a[1][int(a[0])],
            "Fn::Split": lambda a: a[1].split(a[0]),
            "Fn::FindInMap": lambda a: self.mappings[a[0]][a[1]][a[2]],
            "Fn::Equals": lambda a: a[0] == a[1],
            "Fn::And": all,
            "Fn::Or": any,
            "Fn::Not": lambda a: not a[0],
            "Fn::Contains": lambda a: a[1] in a[0],
        }
        if name not in functions:
            raise TemplateError(f"{name} is not supported here")
        return functions[name](argument)

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name in self.values:
            return self.values[name]
        return self._attribute(name, "Ref", pending={"Ref": name})

    def _get_att(self, argument: str | list[str]) -> Any:
        name, attribute = argument.split(".", 1) if isinstance(argument, str) else (argument[0], ".".join(argument[1:]))
        return self._attribute(name, attribute, pending={"Fn::GetAtt": [name, attribute]})

    def _attribute(self, name: str, attribute: str, pending: Mapping[str, Any]) -> Any:
        if name not in self.declared:
            raise TemplateError(f"{name} is referred to, but is neither a parameter nor a resource")
        if self.attributes is None:
            return pending
        if name not in self.attributes:
            raise TemplateError(f"{name} is needed, but it has not been created yet")
        if attribute not in self.attributes[name]:
            raise TemplateError(
                f"{name} has no attribute {attribute}; known are {', '.join(sorted(self.attributes[name]))}"
            )
        return self.attributes[name][attribute]

    def _sub(self, argument: str | list[Any]) -> Any:
        text, variables = (argument, {}) if isinstance(argument, str) else argument

        def value_of(name: str) -> Any:
            if name in variables:
                return variables[name]
            return self._get_att(name) if "." in name else self._ref(name)

        names = [name for literal, name in _SUB_VARIABLE.findall(text) if not literal]
        found = {name: value_of(name.strip()) for name in names}
        if _is_pending(list(found.values())):
            return {"Fn::Sub": argument}
        return _SUB_VARIABLE.sub(lambda m: f"${{{m[2]}}}" if m[1] else str(found[m[2]]), text)


def _intrinsic(value: Mapping[str, Any]) -> str | None:
    """Return the name of the intrinsic function that `value` calls, if it calls one."""
    if len(value) != 1:
        return None
    ((name, argument),) = value.items()
    # {"Condition": "Name"} is a call; the Condition block of an IAM statement holds a mapping.
    is_call = name == "Ref" or name.startswith("Fn::") or (name == "Condition" and isinstance(argument, str))
    return name if is_call else None


def _is_pending(value: object) -> bool:
    """Return whether `value` still contains an intrinsic function."""
    if isinstance(value, Mapping):
        return _intrinsic(value) is not None or any(map(_is_pending, value.values()))
    return isinstance(value, list) and any(map(_is_pending, value))


# YAML


class _Loader(yaml.SafeLoader):
    """SafeLoader that also reads CloudFormation's short forms, and leaves dates as text."""


_Loader.add_multi_constructor("!", intrinsics_multi_constructor)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _loader, node: node.value)
