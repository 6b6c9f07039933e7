"""The function as an image and as a zip: checks of the template, and each deployed into moto."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import boto3
import pytest

from tests.template.checking import Break, make_tests, of_type, properties
from tests.template.conftest import simulated_aws
from tests.template.stack import PARAMETERS, Stack, Template, deploy
from transferlite.packaging.lambda_zip import PLATFORMS

DEPLOYED_FUNCTION = {"Fn::If": ["IsZip", {"Ref": "ZipFunction"}, {"Ref": "InferenceFunction"}]}
DEPLOYED_FUNCTION_ARN = {
    "Fn::If": ["IsZip", {"Fn::GetAtt": ["ZipFunction", "Arn"]}, {"Fn::GetAtt": ["InferenceFunction", "Arn"]}]
}
PACKAGE_PROPERTIES = {"PackageType", "Code", "Handler", "Runtime"}


# -- the checks --------------------------------------------------------------------------------------------------------


def exactly_one_function_is_deployed(template: Template) -> None:
    kinds = {
        name: resource["Condition"]
        for name, resource in template["Resources"].items()
        if "::Lambda::Function" in resource["Type"]
    }
    assert kinds == {"InferenceFunction": "IsImage", "ZipFunction": "IsZip"}
    for kind in ("Image", "Zip"):
        assert template["Conditions"][f"Is{kind}"] == {"Fn::Equals": [{"Ref": "FunctionPackage"}, kind]}
    assert template["Parameters"]["FunctionPackage"]["AllowedValues"] == ["Image", "Zip"]


def each_package_type_has_the_required_properties(template: Template) -> None:
    image, archive = properties(template, "InferenceFunction"), properties(template, "ZipFunction")
    assert (image["PackageType"], image["Code"]) == ("Image", {"ImageUri": {"Ref": "InferenceImage"}})
    assert not {"Handler", "Runtime", "Layers"} & set(image)  # Lambda refuses an image with any of them
    assert archive.get("PackageType", "Zip") == "Zip"
    assert archive["Code"] == {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": "CodeKey"}}
    assert archive["Runtime"] == {"Ref": "FunctionRuntime"}
    module, _, name = archive["Handler"].rpartition(".")
    assert callable(getattr(import_module(module), name))


def both_are_the_same_function(template: Template) -> None:
    image, archive = (
        {key: value for key, value in function.items() if key not in PACKAGE_PROPERTIES}
        for function in of_type(template, "AWS::Lambda::Function").values()
    )
    assert image == archive
    assert image["Role"] == {"Fn::GetAtt": ["InferenceRole", "Arn"]}
    assert image["Architectures"] == [{"Ref": "Architecture"}]


def references_point_to_the_deployed_function(template: Template) -> None:
    assert properties(template, "IncomingQueueTrigger")["FunctionName"] == DEPLOYED_FUNCTION
    assert properties(template, "InferenceFunctionUrl")["TargetFunctionArn"] == DEPLOYED_FUNCTION_ARN
    (dimension,) = properties(template, "FunctionErrorsAlarm")["Dimensions"]
    assert dimension == {"Name": "FunctionName", "Value": DEPLOYED_FUNCTION}
    assert properties(template, "Dashboard")["DashboardBody"]["Fn::Sub"][1] == {"Function": DEPLOYED_FUNCTION}
    assert template["Outputs"]["InferenceFunctionName"]["Value"] == DEPLOYED_FUNCTION


def a_missing_package_is_refused_before_deployment(template: Template) -> None:
    required: dict[str, set[str]] = {}
    for rule in template["Rules"].values():
        option, kind = rule["RuleCondition"].get("Fn::Equals", (None, None))
        if option != {"Ref": "FunctionPackage"}:
            continue  # a rule of another option
        comparisons = [assertion["Assert"]["Fn::Not"][0]["Fn::Equals"] for assertion in rule["Assertions"]]
        required[kind] = {reference["Ref"] for reference, _ in comparisons}
        assert all(template["Parameters"][reference["Ref"]]["Default"] == missing for reference, missing in comparisons)
    assert required == {"Image": {"InferenceImage"}, "Zip": {"CodeBucket", "CodeKey"}}


def zip_platforms_match_the_template(template: Template) -> None:
    assert set(template["Parameters"]["Architecture"]["AllowedValues"]) == set(PLATFORMS)
    runtime = template["Parameters"]["FunctionRuntime"]
    assert runtime["Default"] == "python3.12"  # the default of ``make lambda.zip``
    assert all(value.startswith("python3.") and int(value[8:]) >= 12 for value in runtime["AllowedValues"])


# -- broken templates --------------------------------------------------------------------------------------------------

BREAKS: list[Break] = [
    (exactly_one_function_is_deployed, ("Resources", "ZipFunction", "Condition"), "IsImage"),
    (exactly_one_function_is_deployed, ("Conditions", "IsZip"), {"Fn::Equals": [{"Ref": "FunctionPackage"}, "zip"]}),
    (exactly_one_function_is_deployed, ("Parameters", "FunctionPackage", "AllowedValues"), ["Image", "Zip", "zip"]),
    (each_package_type_has_the_required_properties, ("InferenceFunction", "PackageType"), "Zip"),
    (each_package_type_has_the_required_properties, ("InferenceFunction", "Runtime"), {"Ref": "FunctionRuntime"}),
    (each_package_type_has_the_required_properties, ("ZipFunction", "Code"), {"ImageUri": {"Ref": "InferenceImage"}}),
    (each_package_type_has_the_required_properties, ("ZipFunction", "Handler"), "inference_lambda.handler.main"),
    (each_package_type_has_the_required_properties, ("ZipFunction", "Runtime"), "python3.11"),
    (both_are_the_same_function, ("ZipFunction", "Environment", "Variables", "TRANSFERLITE_VARIANT"), "int8"),
    (both_are_the_same_function, ("ZipFunction", "Timeout"), 3),
    (both_are_the_same_function, ("InferenceFunction", "LoggingConfig"), {}),
    (references_point_to_the_deployed_function, ("IncomingQueueTrigger", "FunctionName"), {"Ref": "InferenceFunction"}),
    (
        references_point_to_the_deployed_function,
        ("InferenceFunctionUrl", "TargetFunctionArn"),
        {"Fn::GetAtt": ["ZipFunction", "Arn"]},
    ),
    (
        references_point_to_the_deployed_function,
        ("FunctionErrorsAlarm", "Dimensions", 0, "Value"),
        {"Ref": "ZipFunction"},
    ),
    (references_point_to_the_deployed_function, ("Dashboard", "DashboardBody", "Fn::Sub", 1), {}),
    (
        references_point_to_the_deployed_function,
        ("Outputs", "InferenceFunctionName", "Value"),
        {"Ref": "InferenceFunction"},
    ),
    (a_missing_package_is_refused_before_deployment, ("Rules", "ZipRequired", "Assertions"), []),
    (
        a_missing_package_is_refused_before_deployment,
        ("Rules", "ImageRequired", "RuleCondition"),
        {"Fn::Equals": [{"Ref": "FunctionUrl"}, "Image"]},
    ),
    (
        a_missing_package_is_refused_before_deployment,
        ("Parameters", "InferenceImage", "Default"),
        "",
    ),
    (zip_platforms_match_the_template, ("Parameters", "FunctionRuntime", "Default"), "python3.13"),
    (
        zip_platforms_match_the_template,
        ("Parameters", "FunctionRuntime", "AllowedValues", 0),
        "python3.11",
    ),
    (zip_platforms_match_the_template, ("Parameters", "Architecture", "AllowedValues"), ["x86_64"]),
]


test_the_template_passes_the_check, test_the_check_detects_a_broken_template = make_tests(BREAKS)


# -- deployed ----------------------------------------------------------------------------------------------------------


def make_zip() -> bytes:
    """Return a zip with a handler."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo("inference_lambda/handler.py"), "def lambda_handler(event, context): ...")
    return content.getvalue()


@pytest.fixture
def zip_stack() -> Iterator[Stack]:
    with simulated_aws({"lambda": {"use_docker": False}}):  # otherwise moto starts a container for S3's test message
        boto3.client("s3").create_bucket(
            Bucket="code", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        boto3.client("s3").put_object(Bucket="code", Key="a/lambda.zip", Body=make_zip())
        yield deploy(
            FunctionPackage="Zip",
            CodeBucket="code",
            CodeKey="a/lambda.zip",
            FunctionRuntime="python3.13",
            InferenceImage="none",
        )


def deployed_function(stack: Stack) -> Any:
    """Return the only function; check that the stack's output and the queue's event source refer to it."""
    (name,) = [function["FunctionName"] for function in boto3.client("lambda").list_functions()["Functions"]]
    assert stack.outputs["InferenceFunctionName"] == name
    source = boto3.client("lambda").get_event_source_mapping(UUID=stack.ids["IncomingQueueTrigger"])
    assert source["FunctionArn"].split(":function:")[1].split(":")[0] == name
    return boto3.client("lambda").get_function(FunctionName=name)


def test_a_zip_stack_deploys_only_the_zip_function(zip_stack: Stack) -> None:
    configuration = deployed_function(zip_stack)["Configuration"]
    assert configuration["CodeSha256"] == base64.b64encode(hashlib.sha256(make_zip()).digest()).decode()
    assert (configuration["Handler"], configuration["Runtime"]) == (
        "inference_lambda.handler.lambda_handler",
        "python3.13",
    )
    assert configuration["Environment"]["Variables"]["TRANSFERLITE_OUTPUT_BUCKET"] == zip_stack.ids["PredictionBucket"]


def test_an_image_stack_deploys_only_the_image_function(stack: Stack) -> None:
    code = deployed_function(stack)["Code"]
    assert (code["RepositoryType"], code["ImageUri"]) == ("ECR", PARAMETERS["InferenceImage"])
