import numpy as np
import pytest

from train_job.evaluation import confidence_calibration
from train_job.evaluation.confidence_calibration import calibration_error, fit_temperature, reliability


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities ``[N, C]`` with their logits divided by the temperature."""
    powers = np.maximum(probabilities.astype(np.float64), 1e-30) ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def predictions(sharpness: float, photos: int = 4000, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose logits are ``sharpness`` times those that the labels were drawn from, and the labels."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(photos, classes)) * 2
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (true.cumsum(axis=1) > random.random((photos, 1))).argmax(axis=1).astype(np.int32)
    powers = np.exp(logits * sharpness)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.5])
def test_the_temperature_corrects_over_and_underconfidence(sharpness: float) -> None:
    probabilities, labels = predictions(sharpness)
    assert fit_temperature(probabilities, labels) == pytest.approx(sharpness, rel=0.05)


def test_calibration_lowers_the_error_and_changes_no_prediction() -> None:
    probabilities, labels = predictions(3.0)
    calibrated = at_temperature(probabilities, fit_temperature(probabilities, labels))
    assert calibration_error(probabilities, labels) > 0.1
    assert calibration_error(calibrated, labels) < 0.03
    np.testing.assert_array_equal(calibrated.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(calibrated.sum(axis=1), 1, atol=1e-6)


def test_a_few_correct_photos_do_not_make_a_model_fully_confident() -> None:
    probabilities = np.tile(np.array([[0.9, 0.1]], np.float32), (10, 1))
    assert 0.5 < fit_temperature(probabilities, np.zeros(10, np.int32)) < 1


def test_without_photos_the_temperature_is_1() -> None:
    probabilities, labels = predictions(2.0)
    assert fit_temperature(probabilities[:0], labels[:0]) == pytest.approx(1.0, abs=1e-3)
    assert calibration_error(probabilities[:0], labels[:0]) == 0


def test_saturated_probabilities_have_a_finite_temperature() -> None:
    probabilities = np.array([[1, 0], [1, 0], [0, 1]] * 20, np.float32)
    labels = np.array([0, 1, 1] * 20, np.int32)
    temperature = fit_temperature(probabilities, labels)
    assert 10 < temperature <= 20.01
    assert np.isfinite(at_temperature(probabilities, temperature)).all()


def test_the_temperature_scales_a_heads_last_layer() -> None:
    from train_job.evaluation.confidence_calibration import apply_temperature
    from train_job.head.model import head_model

    head = head_model(6, 5, 3)
    rows = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    before = head.predict_on_batch(rows)
    apply_temperature(head, 2.5)
    np.testing.assert_allclose(head.predict_on_batch(rows), at_temperature(before, 2.5), atol=1e-6)


def test_the_calibration_error_matches_a_hand_computation() -> None:
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.45, 0.55], [0.0, 1.0]], np.float32)
    labels = np.array([0, 1, 1, 1], np.int32)
    expected = (2 * abs(0.8 - 0.5) + abs(0.55 - 1) + 0) / 4
    assert calibration_error(probabilities, labels) == pytest.approx(expected)
    assert [group["photos"] for group in reliability(probabilities, labels)] == [1, 2, 1]


def test_the_temperature_does_not_depend_on_the_size_of_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(5), 200).astype(np.float32)
    labels = random.integers(0, 5, 200).astype(np.int32)
    expected = confidence_calibration.fit_temperature(probabilities, labels)
    monkeypatch.setattr(confidence_calibration, "_BLOCK_BYTES", 8 * 5 * 7)
    assert confidence_calibration.fit_temperature(probabilities, labels) == pytest.approx(expected)
