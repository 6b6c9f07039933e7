import numpy as np
import pytest

from train_job.evaluation.mcnemar_test import (
    CLASS_LEVEL,
    MIN_PHOTOS,
    OVERALL_LEVEL,
    POWER,
    check,
    detectable_drop,
    holm,
    mid_p,
)


@pytest.mark.parametrize(
    ("lost", "won", "by_hand"),
    [
        (0, 0, 1 / 2),
        (5, 0, 1 / 64),  # half of 1 / 32
        (3, 1, 3 / 16),  # 1 / 16 for four heads, half of 4 / 16 for three
        (10, 2, (1 + 12 + 66 / 2) / 4096),
        (0, 3, 15 / 16),
    ],
)
def test_the_mid_p_value_is_the_one_computed_by_hand(lost: int, won: int, by_hand: float) -> None:
    assert mid_p(lost, won) == pytest.approx(by_hand)


def test_holm_compares_with_the_level_divided_by_the_tests_that_are_left() -> None:
    p_values = np.array([[0.04, 0.001, 0.02], [0.02, 0.02, 0.02], [0.026, 0.001, 0.9]])
    family = np.ones((3, 3), bool)
    assert holm(p_values, family, 0.05).tolist() == [[True, True, True], [False] * 3, [False, True, False]]


def test_a_test_outside_the_family_neither_counts_nor_is_significant() -> None:
    found = holm(np.array([0.001, 0.04, 0.03]), np.array([False, True, False]), 0.05)
    assert found.tolist() == [False, True, False]


def test_five_photos_are_the_fewest_for_a_check_of_a_class() -> None:
    assert MIN_PHOTOS == 5
    assert mid_p(5, 0) <= CLASS_LEVEL < mid_p(4, 0)


def test_a_class_that_lost_five_of_five_photos_is_refused_and_one_of_four_is_not() -> None:
    assert check([5, 200], [5, 2], [0, 2], 0.02).worse_classes.tolist() == [True, False]
    found = check([4, 200], [4, 2], [0, 2], 0.02)
    assert found.worse_classes.tolist() == [False, False]
    assert found.checked.tolist() == [False, True]


def test_classes_without_discordant_photos_do_not_weaken_the_check_of_another() -> None:
    photos, lost = np.full(100, 10), np.zeros(100, int)
    lost[7] = 6
    assert np.flatnonzero(check(photos, lost, 0, 0.02).worse_classes).tolist() == [7]


def test_several_discordant_classes_share_the_level() -> None:
    lost = [6, 8, 8]  # the first has p = 1 / 128, between 0.02 / 3 and 0.02 / 2
    assert not check([50] * 3, lost, [0, 8, 8], 0.02).worse_classes.any()
    assert check([50] * 3, lost, [0, 0, 8], 0.02).worse_classes.tolist() == [True, True, False]


@pytest.mark.parametrize(("tolerance", "refused"), [(0.0, True), (0.09, True), (0.1, False), (0.2, False)])
def test_a_significant_drop_within_the_tolerance_is_no_reason(tolerance: float, refused: bool) -> None:
    found = check([100], [12], [2], tolerance)
    assert found.p_value <= OVERALL_LEVEL
    assert (bool(found.worse), bool(found.worse_classes[0])) == (refused, refused)


def test_a_drop_of_exactly_the_tolerance_is_tolerated_whatever_its_rounding() -> None:
    for percent in range(1, 100):
        assert not check([100], [percent], [0], percent / 100).refused, percent


def test_a_drop_that_chance_explains_is_no_reason() -> None:
    assert not check([20], [3], [0], 0.02).refused
    assert not check([100, 100], [8, 8], [4, 4], 0.02).refused


def test_a_better_version_is_not_refused() -> None:
    assert not check([50, 50], [0, 1], [20, 20], 0.0).refused


def test_many_comparisons_at_once_give_what_each_gives_alone() -> None:
    random = np.random.default_rng(1)
    lost, won = random.integers(0, 9, (2, 40, 6))
    together = check(30, lost, won, 0.02)
    for place in range(40):
        alone = check([30] * 6, lost[place], won[place], 0.02)
        assert together.refused[place] == alone.refused
        assert (together.worse_classes[place] == alone.worse_classes).all()
        assert together.p_value[place] == alone.p_value


def test_no_photos_are_no_reason() -> None:
    assert not check([], [], [], 0.02).refused
    assert not check([0, 0], [0, 0], [0, 0], 0.0).refused


@pytest.mark.parametrize(("photos", "lost", "won"), [(5, 3, 3), (5, -1, 0), (5, 0, -1)])
def test_counts_that_cannot_be_are_refused(photos: int, lost: int, won: int) -> None:
    with pytest.raises(ValueError, match="must not"):
        check([photos], [lost], [won], 0.02)


@pytest.mark.parametrize("level", [OVERALL_LEVEL, CLASS_LEVEL])
@pytest.mark.parametrize("photos", [6, 30, 250])
def test_the_detectable_drop_is_found_in_simulations_with_the_stated_probability(photos: int, level: float) -> None:
    drop = detectable_drop(photos, level, 0.02)
    assert drop is not None
    won = min(0.04, 1 - drop) / 2
    counts = np.random.default_rng(0).multinomial(photos, [drop + won, won, 1 - drop - 2 * won], 20_000)
    lost, gained = counts[:, 0], counts[:, 1]
    found = ((mid_p(lost, gained) <= level) & (lost - gained > 0.02 * photos)).mean()
    assert POWER - 0.01 <= found <= (1.0 if photos < 10 else POWER + 0.12)


def test_too_few_photos_detect_nothing() -> None:
    assert [detectable_drop(photos, CLASS_LEVEL, 0.02) for photos in (0, 1, 4)] == [None] * 3
    assert detectable_drop(3, OVERALL_LEVEL, 0.02) is None
    assert detectable_drop(50, CLASS_LEVEL, 1.0) is None
