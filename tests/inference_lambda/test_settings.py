import pytest

from inference_lambda.settings import Settings
from runtime.errors import InputError


def test_only_the_registry_must_be_named() -> None:
    settings = Settings.from_environment({"TRANSFERLITE_REGISTRY": "s3://models"})
    assert settings == Settings("s3://models", None, "production", "float32", 60.0)


def test_everything_may_be_named() -> None:
    environment = {
        "TRANSFERLITE_REGISTRY": "s3://models",
        "TRANSFERLITE_OUTPUT_BUCKET": "out",
        "TRANSFERLITE_CHANNEL": "staging",
        "TRANSFERLITE_VARIANT": "int8",
        "TRANSFERLITE_REFRESH_SECONDS": "0.5",
    }
    assert Settings.from_environment(environment) == Settings("s3://models", "out", "staging", "int8", 0.5)


@pytest.mark.parametrize("environment", [{}, {"TRANSFERLITE_REGISTRY": ""}])
def test_a_missing_registry_is_named(environment: dict[str, str]) -> None:
    with pytest.raises(InputError, match="TRANSFERLITE_REGISTRY is not set; set it to the registry's s3:// URI"):
        Settings.from_environment(environment)


@pytest.mark.parametrize("seconds", ["soon", "", "1m"])
def test_a_refresh_that_is_no_number_is_named(seconds: str) -> None:
    with pytest.raises(InputError, match=f"TRANSFERLITE_REFRESH_SECONDS is '{seconds}', not a number"):
        Settings.from_environment({"TRANSFERLITE_REGISTRY": "r", "TRANSFERLITE_REFRESH_SECONDS": seconds})


def test_a_refresh_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(InputError, match="TRANSFERLITE_REFRESH_SECONDS"):
        Settings.from_environment({"TRANSFERLITE_REGISTRY": "r", "TRANSFERLITE_REFRESH_SECONDS": "nan"})
