"""The guards of tests/conftest.py hold, so that a passing unit test is one without network and without real AWS."""

from __future__ import annotations

import os
import socket

import boto3
import pytest


def test_no_connection_leaves_a_unit_test() -> None:
    with socket.socket() as sock, pytest.raises(Exception, match="tried to connect"):
        sock.connect(("127.0.0.1", 9))
    with pytest.raises(OSError, match="no name lookups"):
        socket.create_connection(("localhost", 9))


def test_credentials_are_fake() -> None:
    credentials = boto3.Session().get_credentials()
    assert credentials is not None
    assert credentials.access_key == "testing"
    assert os.environ["AWS_DEFAULT_REGION"] == "ap-southeast-2"
