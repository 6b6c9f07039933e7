"""``transferlite cloud doctor`` in moto, with rights and quotas as an account may have them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.template.conftest import simulated_aws
from transferlite.cli.main import run
from transferlite.cloud import doctor
from transferlite.cloud import stack as cloud_stack

Out = pytest.CaptureFixture[str]
REGION = "eu-central-1"


class Replaced:
    """AWS clients, but for the services that moto does not simulate."""

    def __init__(self, **services: Any) -> None:
        self.services = services

    def __call__(self, service: str, region: str | None = None) -> Any:
        return self.services.get(service) or boto3.client(service, region_name=region)


class Iam:
    """IAM whose simulator denies some actions."""

    def __init__(self, *denied: str) -> None:
        self.denied = denied

    def get_paginator(self, _name: str) -> "Iam":
        return self

    def paginate(self, PolicySourceArn: str, ActionNames: list[str]) -> list[Any]:  # noqa: N803
        self.source = PolicySourceArn
        decisions = {action: "implicitDeny" if action in self.denied else "allowed" for action in ActionNames}
        return [
            {"EvaluationResults": [{"EvalActionName": key, "EvalDecision": value} for key, value in decisions.items()]}
        ]


class Quotas:
    """Service Quotas, with the same value for each."""

    def __init__(self, value: float) -> None:
        self.value = value

    def get_service_quota(self, **_: str) -> Any:
        return {"Quota": {"Value": self.value}}


class Lambda:
    """Lambda of a new account."""

    def get_account_settings(self) -> Any:
        return {"AccountLimit": {"ConcurrentExecutions": 10}}


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A moto account, and stand-ins for sam and docker that answer."""
    for name, text in (("sam", "echo SAM CLI, version 1.170.0"), ("docker", "true")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with simulated_aws():
        cloud_stack._session.cache_clear()
        monkeypatch.setattr(doctor, "client", Replaced(iam=Iam(), **{"service-quotas": Quotas(64), "lambda": Lambda()}))
        yield
    cloud_stack._session.cache_clear()


def examined(capsys: Out, *words: str, status: int) -> dict[str, str]:
    """States by name of the checks; the last check of a name counts."""
    assert run(["cloud", "doctor", *words]) == status
    return {line[9:21].strip(): line[:8].strip() for line in capsys.readouterr().out.splitlines()}


@pytest.mark.usefixtures("account")
def test_an_account_that_is_ready_has_no_failure(capsys: Out) -> None:
    states = examined(capsys, status=0)
    assert states.pop("image") == "warning"  # nothing is pushed yet
    assert states.pop("concurrency") == "warning"  # as in a new account
    assert states == dict.fromkeys(("SAM CLI", "containers", "credentials", "rights", "quota"), "ok")


@pytest.mark.usefixtures("account")
def test_a_missing_right_and_a_zero_quota_are_failures(monkeypatch: pytest.MonkeyPatch, capsys: Out) -> None:
    iam = Iam("iam:CreateRole")
    monkeypatch.setattr(doctor, "client", Replaced(iam=iam, **{"service-quotas": Quotas(0), "lambda": Lambda()}))
    monkeypatch.setattr(doctor, "_identity", lambda: "arn:aws:sts::111122223333:assumed-role/Admin/me")
    assert run(["cloud", "doctor"]) == 1
    printed = capsys.readouterr().out
    assert iam.source == "arn:aws:iam::111122223333:role/Admin"
    assert "may not iam:CreateRole; ask for them" in printed
    assert "failure  quota        Fargate vCPUs: 0; raise quota L-3032A538" in printed
    assert "warning  quota        vCPUs of G instances, for Compute=gpu: 0" in printed


@pytest.mark.usefixtures("account")
def test_an_existing_bucket_is_checked(capsys: Out) -> None:
    there = boto3.client("s3", region_name="us-west-2")
    there.create_bucket(Bucket="far", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    assert examined(capsys, "--data-bucket", "far", status=1)["bucket"] == "failure"
    boto3.client("s3").create_bucket(Bucket="near", CreateBucketConfiguration={"LocationConstraint": REGION})
    assert examined(capsys, "--data-bucket", "near", status=0)["bucket"] == "ok"
    key = boto3.client("kms").create_key()["KeyMetadata"]["KeyId"]
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    boto3.client("s3").put_bucket_encryption(Bucket="near", ServerSideEncryptionConfiguration={"Rules": [rule]})
    boto3.client("kms").disable_key(KeyId=key)
    assert examined(capsys, "--data-bucket", "near", status=1)["bucket"] == "failure"


def test_without_tools_and_credentials_the_rest_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    cloud_stack._session.cache_clear()
    states = examined(capsys, status=1)
    assert states == {"SAM CLI": "failure", "containers": "warning", "credentials": "failure"}
    cloud_stack._session.cache_clear()
