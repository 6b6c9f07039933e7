import numpy as np
import pytest

from benchmarks.promotion import LEAST_FOUND, MOST_REFUSED, SETTINGS, shares
from benchmarks.sides.promotion_floor import FLOOR_SETTINGS, FloorSetting, share_promoted
from benchmarks.sides.promotion_models import Setting, make_pool, trials
from benchmarks.sides.promotion_rules import in_use

SIMULATIONS = 600
HELD = [setting for setting in SETTINGS if setting.bound is not None]


@pytest.mark.parametrize("setting", HELD, ids=[setting.name for setting in HELD])
def test_the_promotion_check_keeps_its_error_rates(setting: Setting) -> None:
    refused = in_use(trials(setting, SIMULATIONS, np.random.default_rng(3))).mean()
    assert setting.bound is not None
    error = 2 * (setting.bound * (1 - setting.bound) / SIMULATIONS) ** 0.5
    if setting.equal:
        assert refused <= MOST_REFUSED + error
    else:
        assert refused >= LEAST_FOUND - error


@pytest.mark.parametrize("setting", FLOOR_SETTINGS, ids=[setting.name for setting in FLOOR_SETTINGS])
def test_the_floor_keeps_its_error_rates(setting: FloorSetting) -> None:
    promoted = share_promoted(setting, SIMULATIONS, np.random.default_rng(3))
    error = 2 * (setting.bound * (1 - setting.bound) / SIMULATIONS) ** 0.5
    if setting.at_most:
        assert promoted <= setting.bound + error
        assert setting.accuracy == pytest.approx(setting.constant_accuracy)
    else:
        assert promoted >= setting.bound - error


def test_without_a_correction_equally_good_versions_are_refused() -> None:
    found = shares(SETTINGS[1], SIMULATIONS, seed=3)
    assert found["0.25 a class"] == pytest.approx(0.43, abs=0.06)
    assert found["in use"] < 0.1


def test_a_less_confident_version_of_the_same_accuracy_is_refused_by_its_log_loss_and_not_by_the_check() -> None:
    less = next(setting for setting in SETTINGS if "half as confident" in setting.name and setting.equal)
    found = shares(less, SIMULATIONS, seed=3)
    assert found["log loss"] > 0.9
    assert found["in use"] < 0.1


def test_simulated_versions_have_the_accuracy_and_the_discordant_photos_of_their_setting() -> None:
    setting = Setting("", 5, 50, accuracy=0.9, discordant=0.04, drop=0.05)
    old, new = make_pool(setting, setting.drop, np.random.default_rng(0)).right
    assert old.mean() == pytest.approx(0.9, abs=0.001)
    assert new.mean() == pytest.approx(0.85, abs=0.001)
    assert (old != new).mean() == pytest.approx(0.09, abs=0.002)


def test_only_the_first_class_is_worse_where_one_is() -> None:
    drawn = trials(Setting("", 3, 40, drop_in_one=0.2), 300, np.random.default_rng(0))
    net = (drawn.lost - drawn.won).mean(0) / 40
    assert net == pytest.approx([0.2, 0, 0], abs=0.01)
