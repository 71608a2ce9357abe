"""The local stack and the template: parts that it would ignore are errors."""

from typing import Any

import pytest

from local.aws.resources import LEFT_OUT, PLAYED_BY_THE_RUNNER, Creator, ResourceError, create_resources
from local.template import read_template, translate

NOWHERE = Creator("http://127.0.0.1:9")


def test_a_type_in_no_table_is_refused() -> None:
    document: dict[str, Any] = read_template()
    document["Resources"]["Shelf"] = {"Type": "AWS::S3::Bucket"}

    with pytest.raises(ResourceError, match="Shelf is of type AWS::S3::Bucket"):
        create_resources(translate(document, {}), NOWHERE)


def test_no_type_is_in_two_tables() -> None:
    assert not LEFT_OUT.keys() & PLAYED_BY_THE_RUNNER.keys()
