"""The function as an image and as a zip: what the template says of both, and each deployed into moto."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import boto3
import pytest

from tests.template.checking import Break, of_type, promises, properties
from tests.template.conftest import simulated_aws
from tests.template.stack import PARAMETERS, Stack, Template, deploy
from transferlite.packaging.lambda_zip import PLATFORMS

THE_ONE_THERE_IS = {"Fn::If": ["IsZip", {"Ref": "ZipFunction"}, {"Ref": "InferenceFunction"}]}
ITS_ARN = {"Fn::If": ["IsZip", {"Fn::GetAtt": ["ZipFunction", "Arn"]}, {"Fn::GetAtt": ["InferenceFunction", "Arn"]}]}
OF_THE_PACKAGE = {"PackageType", "Code", "Handler", "Runtime"}


# -- the checks -------------------------------------------------------------------------------------------------------


def one_function_is_deployed_of_two(template: Template) -> None:
    kinds = {
        name: one["Condition"] for name, one in template["Resources"].items() if "::Lambda::Function" in one["Type"]
    }
    assert kinds == {"InferenceFunction": "IsImage", "ZipFunction": "IsZip"}
    for kind in ("Image", "Zip"):
        assert template["Conditions"][f"Is{kind}"] == {"Fn::Equals": [{"Ref": "FunctionPackage"}, kind]}
    assert template["Parameters"]["FunctionPackage"]["AllowedValues"] == ["Image", "Zip"]


def each_package_has_what_lambda_asks_of_it(template: Template) -> None:
    image, archive = properties(template, "InferenceFunction"), properties(template, "ZipFunction")
    assert (image["PackageType"], image["Code"]) == ("Image", {"ImageUri": {"Ref": "InferenceImage"}})
    assert not {"Handler", "Runtime", "Layers"} & set(image)  # Lambda refuses an image with one
    assert archive.get("PackageType", "Zip") == "Zip"
    assert archive["Code"] == {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": "CodeKey"}}
    assert archive["Runtime"] == {"Ref": "FunctionRuntime"}
    module, _, name = archive["Handler"].rpartition(".")
    assert callable(getattr(import_module(module), name))


def both_are_the_same_function(template: Template) -> None:
    image, archive = (
        {key: value for key, value in one.items() if key not in OF_THE_PACKAGE}
        for one in of_type(template, "AWS::Lambda::Function").values()
    )
    assert image == archive
    assert image["Role"] == {"Fn::GetAtt": ["InferenceRole", "Arn"]}
    assert image["Architectures"] == [{"Ref": "Architecture"}]


def whoever_asks_finds_the_one_there_is(template: Template) -> None:
    assert properties(template, "IncomingQueueTrigger")["FunctionName"] == THE_ONE_THERE_IS
    assert properties(template, "InferenceFunctionUrl")["TargetFunctionArn"] == ITS_ARN
    (dimension,) = properties(template, "FunctionErrorsAlarm")["Dimensions"]
    assert dimension == {"Name": "FunctionName", "Value": THE_ONE_THERE_IS}
    assert properties(template, "Dashboard")["DashboardBody"]["Fn::Sub"][1] == {"Function": THE_ONE_THERE_IS}
    assert template["Outputs"]["InferenceFunctionName"]["Value"] == THE_ONE_THERE_IS


def a_package_that_is_not_named_is_refused_before_anything_is_made(template: Template) -> None:
    asked: dict[str, set[str]] = {}
    for rule in template["Rules"].values():
        kind = rule["RuleCondition"]["Fn::Equals"][1]
        assert rule["RuleCondition"]["Fn::Equals"][0] == {"Ref": "FunctionPackage"}
        named = [one["Assert"]["Fn::Not"][0]["Fn::Equals"] for one in rule["Assertions"]]
        asked[kind] = {one["Ref"] for one, _ in named}
        assert all(template["Parameters"][one["Ref"]]["Default"] == nothing for one, nothing in named)
    assert asked == {"Image": {"InferenceImage"}, "Zip": {"CodeBucket", "CodeKey"}}


def what_a_zip_is_made_for_is_what_the_template_takes(template: Template) -> None:
    assert set(template["Parameters"]["Architecture"]["AllowedValues"]) == set(PLATFORMS)
    runtime = template["Parameters"]["FunctionRuntime"]
    assert runtime["Default"] == "python3.12"  # the default of ``make lambda.zip``
    assert all(one.startswith("python3.") and int(one[8:]) >= 12 for one in runtime["AllowedValues"])


# -- and what breaks them ----------------------------------------------------------------------------------------------

BREAKS: list[Break] = [
    (one_function_is_deployed_of_two, ("Resources", "ZipFunction", "Condition"), "IsImage"),
    (one_function_is_deployed_of_two, ("Conditions", "IsZip"), {"Fn::Equals": [{"Ref": "FunctionPackage"}, "zip"]}),
    (one_function_is_deployed_of_two, ("Parameters", "FunctionPackage", "AllowedValues"), ["Image", "Zip", "zip"]),
    (each_package_has_what_lambda_asks_of_it, ("InferenceFunction", "PackageType"), "Zip"),
    (each_package_has_what_lambda_asks_of_it, ("InferenceFunction", "Runtime"), {"Ref": "FunctionRuntime"}),
    (each_package_has_what_lambda_asks_of_it, ("ZipFunction", "Code"), {"ImageUri": {"Ref": "InferenceImage"}}),
    (each_package_has_what_lambda_asks_of_it, ("ZipFunction", "Handler"), "inference_lambda.handler.main"),
    (each_package_has_what_lambda_asks_of_it, ("ZipFunction", "Runtime"), "python3.11"),
    (both_are_the_same_function, ("ZipFunction", "Environment", "Variables", "TRANSFERLITE_VARIANT"), "int8"),
    (both_are_the_same_function, ("ZipFunction", "Timeout"), 3),
    (both_are_the_same_function, ("InferenceFunction", "LoggingConfig"), {}),
    (whoever_asks_finds_the_one_there_is, ("IncomingQueueTrigger", "FunctionName"), {"Ref": "InferenceFunction"}),
    (
        whoever_asks_finds_the_one_there_is,
        ("InferenceFunctionUrl", "TargetFunctionArn"),
        {"Fn::GetAtt": ["ZipFunction", "Arn"]},
    ),
    (whoever_asks_finds_the_one_there_is, ("FunctionErrorsAlarm", "Dimensions", 0, "Value"), {"Ref": "ZipFunction"}),
    (whoever_asks_finds_the_one_there_is, ("Dashboard", "DashboardBody", "Fn::Sub", 1), {}),
    (whoever_asks_finds_the_one_there_is, ("Outputs", "InferenceFunctionName", "Value"), {"Ref": "InferenceFunction"}),
    (a_package_that_is_not_named_is_refused_before_anything_is_made, ("Rules", "ZipRequired", "Assertions"), []),
    (
        a_package_that_is_not_named_is_refused_before_anything_is_made,
        ("Parameters", "InferenceImage", "Default"),
        "",
    ),
    (what_a_zip_is_made_for_is_what_the_template_takes, ("Parameters", "FunctionRuntime", "Default"), "python3.13"),
    (
        what_a_zip_is_made_for_is_what_the_template_takes,
        ("Parameters", "FunctionRuntime", "AllowedValues", 0),
        "python3.11",
    ),
    (what_a_zip_is_made_for_is_what_the_template_takes, ("Parameters", "Architecture", "AllowedValues"), ["x86_64"]),
]


test_the_template_keeps_its_promise, test_a_broken_promise_is_seen = promises(BREAKS)


# -- deployed ---------------------------------------------------------------------------------------------------------


def packed() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(zipfile.ZipInfo("inference_lambda/handler.py"), "def lambda_handler(event, context): ...")
    return made.getvalue()


@pytest.fixture
def from_a_zip() -> Iterator[Stack]:
    with simulated_aws({"lambda": {"use_docker": False}}):  # moto would start a container for S3's test message
        boto3.client("s3").create_bucket(
            Bucket="code", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        boto3.client("s3").put_object(Bucket="code", Key="a/lambda.zip", Body=packed())
        yield deploy(
            FunctionPackage="Zip",
            CodeBucket="code",
            CodeKey="a/lambda.zip",
            FunctionRuntime="python3.13",
            InferenceImage="none",
        )


def deployed_function(stack: Stack) -> Any:
    """The function, which the stack's output and the queue's event source both name."""
    (name,) = [one["FunctionName"] for one in boto3.client("lambda").list_functions()["Functions"]]
    assert stack.outputs["InferenceFunctionName"] == name
    source = boto3.client("lambda").get_event_source_mapping(UUID=stack.ids["IncomingQueueTrigger"])
    assert source["FunctionArn"].split(":function:")[1].split(":")[0] == name
    return boto3.client("lambda").get_function(FunctionName=name)


def test_a_stack_of_a_zip_has_a_function_of_that_zip_alone(from_a_zip: Stack) -> None:
    made = deployed_function(from_a_zip)["Configuration"]
    assert made["CodeSha256"] == base64.b64encode(hashlib.sha256(packed()).digest()).decode()
    assert (made["Handler"], made["Runtime"]) == ("inference_lambda.handler.lambda_handler", "python3.13")
    assert made["Environment"]["Variables"]["TRANSFERLITE_OUTPUT_BUCKET"] == from_a_zip.ids["PredictionBucket"]


def test_a_stack_of_an_image_has_a_function_of_that_image_alone(stack: Stack) -> None:
    code = deployed_function(stack)["Code"]
    assert (code["RepositoryType"], code["ImageUri"]) == ("ECR", PARAMETERS["InferenceImage"])
