import pytest

from inference_lambda.settings import Settings
from transferlite.errors import InputError


def test_only_the_registry_is_required() -> None:
    settings = Settings.from_environment({"TRANSFERLITE_REGISTRY": "s3://models"})
    assert settings == Settings("s3://models", None, "production", "auto", 60.0)


def test_every_setting_is_read() -> None:
    environment = {
        "TRANSFERLITE_REGISTRY": "s3://models",
        "TRANSFERLITE_OUTPUT_BUCKET": "out",
        "TRANSFERLITE_CHANNEL": "staging",
        "TRANSFERLITE_VARIANT": "int8",
        "TRANSFERLITE_REFRESH_SECONDS": "0.5",
    }
    assert Settings.from_environment(environment) == Settings("s3://models", "out", "staging", "int8", 0.5)


@pytest.mark.parametrize("environment", [{}, {"TRANSFERLITE_REGISTRY": ""}])
def test_a_missing_registry_setting_is_reported(environment: dict[str, str]) -> None:
    with pytest.raises(InputError, match="TRANSFERLITE_REGISTRY is not set; set it to the registry's s3:// URI"):
        Settings.from_environment(environment)


@pytest.mark.parametrize("seconds", ["soon", "", "1m"])
def test_a_non_numeric_refresh_time_is_reported(seconds: str) -> None:
    with pytest.raises(InputError, match=f"TRANSFERLITE_REFRESH_SECONDS is '{seconds}', not a number"):
        Settings.from_environment({"TRANSFERLITE_REGISTRY": "r", "TRANSFERLITE_REFRESH_SECONDS": seconds})


def test_a_nan_refresh_time_is_refused() -> None:
    with pytest.raises(InputError, match="TRANSFERLITE_REFRESH_SECONDS"):
        Settings.from_environment({"TRANSFERLITE_REGISTRY": "r", "TRANSFERLITE_REFRESH_SECONDS": "nan"})


def with_inputs(inputs: str, output: str = "out") -> Settings:
    names = {"REGISTRY": "s3://models", "OUTPUT_BUCKET": output, "INPUTS": inputs}
    return Settings.from_environment({f"TRANSFERLITE_{name}": value for name, value in names.items()})


@pytest.mark.parametrize("inputs", ["s3://out", "s3://out/", "s3://in/a, s3://out/p", "s3://out/predictions/sub/"])
def test_records_that_would_trigger_the_function_are_refused(inputs: str) -> None:
    with pytest.raises(InputError, match=r"records in s3://out/predictions/ would trigger the function again"):
        with_inputs(inputs)


@pytest.mark.parametrize("inputs", ["", "s3://in", "s3://out/incoming/", "s3://out/predictions-of-old/", "s3://ou"])
def test_records_outside_the_inputs_are_allowed(inputs: str) -> None:
    assert with_inputs(inputs).output_bucket == "out"


@pytest.mark.parametrize("inputs", ["in/photos", "s3://", "file:///in"])
def test_an_input_that_is_not_an_s3_uri_is_reported(inputs: str) -> None:
    with pytest.raises(InputError, match="TRANSFERLITE_INPUTS has"):
        with_inputs(inputs)


def test_allowed_buckets_are_comma_separated() -> None:
    settings = Settings.from_environment({"TRANSFERLITE_REGISTRY": "r", "TRANSFERLITE_ALLOWED_BUCKETS": "a, b,"})
    assert [settings.allows(f"s3://{name}/k") for name in ("a", "b", "c", "a.b")] == [True, True, False, False]
    assert Settings("r", None).allows("s3://any/k")
