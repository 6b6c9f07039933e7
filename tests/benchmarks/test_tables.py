import click
import numpy as np
import pytest

from benchmarks.forward_table import float16_steps
from benchmarks.helpers.processes import Side
from benchmarks.helpers.seed_cases import CASES
from benchmarks.limits import Limits, median
from benchmarks.seed_job import Rounds, check_same_features, table


def test_the_error_output_of_a_side_that_ends_is_reported() -> None:
    with (
        Side("benchmarks.helpers.photos", "--nonsense") as side,
        pytest.raises(click.ClickException, match="--nonsense"),
    ):
        side.request("round")


def test_the_limit_of_the_forward_pass_is_the_faster_way() -> None:
    assert Limits(decode=1, litert=2, tensorflow=5, head=3).total == 6
    assert Limits(decode=1, litert=5, tensorflow=2, head=3).total == 6


def test_the_median_of_limits_is_taken_part_by_part() -> None:
    assert median([Limits(1, 9, 2, 3), Limits(3, 5, 2, 3), Limits(2, 7, 8, 9)]) == Limits(2, 7, 2, 3)


def test_float16_steps_use_the_size_of_the_number_or_of_its_row() -> None:
    expected = np.array([[1.0, 1.0, 1.0, 0.0]], np.float32)
    assert float16_steps(expected + np.array([[2**-10, 0, 0, 0]], np.float32), expected) == 1
    assert float16_steps(expected + np.array([[0, 0, 0, 2**-10]], np.float32), expected) == 2  # a step at 0.75


def test_the_table_extrapolates_steps_and_has_ratios_to_the_training_phases() -> None:
    rounds = Rounds(
        keras_steps=[0.5, 0.5, 9],
        limits=[Limits(1, 2, 3, 1)],
        training=[5.0],
        whole=[10.0],
        torch_steps=[],
        torch_kept=[],
    )
    rows = {row[0].partition(":")[0]: row[1:] for row in table(CASES[1], rounds)}
    assert rows["Keras fit, frozen backbone"] == ["500.0 s", "**100x**", "50x"]
    assert rows["training"] == ["5.0 s", "**1x**", "0.5x"]
    assert rows["limits"] == ["4.0 s", "**0.8x**", "0.4x"]


def test_a_peer_with_other_features_is_rejected() -> None:
    rows = np.zeros((2, 3), np.float32)
    check_same_features(rows + 5e-4, rows)
    with pytest.raises(click.ClickException, match="differ"):
        check_same_features(rows + 2e-3, rows)
