"""Buckets of new and redeployed stacks, and existing buckets with photos."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.s3.models import s3_backends

from tests.template.conftest import simulated_aws
from transferlite.cloud import stack as cloud_stack
from transferlite.cloud.buckets import bucket_parameters, send_events, stack_prefix
from transferlite.errors import InputError

ACCOUNT, REGION = "123456789012", "eu-central-1"
PREFIX = stack_prefix("Photos", ACCOUNT, REGION)


@pytest.fixture
def s3() -> Iterator[Any]:
    with simulated_aws():
        cloud_stack._session.cache_clear()
        yield boto3.client("s3")
    cloud_stack._session.cache_clear()


def create(s3: Any, *names: str, region: str = REGION) -> None:
    for name in names:
        there = s3 if region == REGION else boto3.client("s3", region_name=region)
        there.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})


@pytest.mark.usefixtures("s3")
def test_a_new_stack_gets_new_buckets_of_its_own_name() -> None:
    assert bucket_parameters("Photos", {"Compute": "gpu"}) == {
        "Prefix": PREFIX,
        "DataBucketName": f"{PREFIX}-data",
        "DataBucketState": "new",
        "DataKeyArn": "",
        "ModelBucketState": "new",
        "PredictionBucketState": "new",
        "Compute": "gpu",
    }


def test_a_redeployed_stack_takes_over_the_buckets_that_it_left(s3: Any) -> None:
    create(s3, f"{PREFIX}-data", f"{PREFIX}-models")
    parameters = bucket_parameters("Photos", {})
    states = {name: value for name, value in parameters.items() if name.endswith("State")}
    assert states == {"DataBucketState": "existing", "ModelBucketState": "existing", "PredictionBucketState": "new"}


def test_an_existing_bucket_is_used_with_its_key(s3: Any) -> None:
    create(s3, "holiday")
    key = boto3.client("kms").create_key()["KeyMetadata"]
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key["KeyId"]}}
    s3.put_bucket_encryption(Bucket="holiday", ServerSideEncryptionConfiguration={"Rules": [rule]})
    parameters = bucket_parameters("Photos", {"DataBucketName": "holiday"})
    assert (parameters["DataBucketState"], parameters["DataKeyArn"]) == ("existing", key["Arn"])
    assert parameters["ModelBucketState"] == "new"


def test_a_bucket_in_another_region_is_refused(s3: Any) -> None:
    create(s3, "holiday", region="us-west-2")
    with pytest.raises(InputError, match="is in us-west-2, not in eu-central-1; deploy the stack in us-west-2"):
        bucket_parameters("Photos", {"DataBucketName": "holiday"})


@pytest.mark.parametrize("state", ["new", "existing"])
def test_a_deployed_stack_keeps_its_buckets(s3: Any, state: str) -> None:
    create(s3, "holiday", "other")
    known = {"Prefix": "old-prefix", "DataBucketName": "holiday", "DataBucketState": state}
    body = "\n".join(["Parameters:", *(f"  {name}: {{ Type: String }}" for name in known)])
    body += "\nResources:\n  Topic: { Type: AWS::SNS::Topic }\n"
    boto3.client("cloudformation").create_stack(
        StackName="Photos",
        TemplateBody=body,
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in known.items()],
    )
    assert bucket_parameters("Photos", {}) == {}
    assert bucket_parameters("Photos", {"DataBucketName": "holiday", "Compute": "gpu"}) == {
        "DataBucketName": "holiday",
        "Compute": "gpu",
    }
    assert bucket_parameters("Photos", {"DataBucketName": "other"}) == {
        "DataBucketName": "other",
        "DataKeyArn": "",
        **({} if state == "existing" else {"DataBucketState": "existing"}),
    }


def test_the_notifications_of_an_existing_bucket_stay(s3: Any) -> None:
    create(s3, "holiday")
    topic = boto3.client("sns").create_topic(Name="theirs")["TopicArn"]
    theirs = {"TopicArn": topic, "Events": ["s3:ObjectCreated:*"], "Id": "theirs"}
    s3.put_bucket_notification_configuration(
        Bucket="holiday", NotificationConfiguration={"TopicConfigurations": [theirs]}
    )
    assert send_events("holiday")
    found = s3.get_bucket_notification_configuration(Bucket="holiday")
    assert found["TopicConfigurations"][0] | theirs == found["TopicConfigurations"][0]
    bucket = s3_backends[ACCOUNT]["aws"].buckets["holiday"]
    assert bucket.notification_configuration.event_bridge is not None  # which moto's answer leaves out
