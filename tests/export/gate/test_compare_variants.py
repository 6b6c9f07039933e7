from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from transferlite.errors import BundleError, GateError

CLASSES = 4
VARIANTS = ("saved_model", "float32", "int8")
LABELS = ("ant", "bee", "cat", "dog")


def correct(photos: Any) -> Any:
    """Model that reads the class from the first pixel: probability 0.97 for it, 0.01 for each other."""
    return np.where(np.arange(CLASSES) == photos[:, 0, 0, :1], 0.97, 0.01).astype(np.float32)


def blind_to_class_two(photos: Any) -> Any:
    probabilities = correct(photos)
    probabilities[photos[:, 0, 0, 0] == 2] = [0.97, 0.01, 0.01, 0.01]
    return probabilities


def returns_nan(photos: Any) -> Any:
    probabilities = correct(photos)
    probabilities[-1, 1] = np.nan
    return probabilities


def pictures(count: int) -> Iterator[tuple[Any, int]]:
    for number in range(count):
        yield np.full((8, 8, 3), number % CLASSES, np.uint8), number % CLASSES


def predict_all(count: int = 40, max_photos: int = 1000, **wrong: Any) -> Any:
    """Run each variant in two runtimes, the second on ``max_photos`` photos; ``wrong`` replaces models by name."""
    from export.gate.compare_variants import CandidateModel, run_candidates
    from export.gate.limits import Candidate

    candidates = {}
    for name in VARIANTS:
        candidates[Candidate(name, "here")] = CandidateModel(wrong.get(name, correct), 1000)
        candidates[Candidate(name, "there")] = CandidateModel(wrong.get(f"{name}_there", correct), max_photos)
    return run_candidates(correct, candidates, pictures(count))


def compare(*arguments: Any, **wrong: Any) -> Any:
    from export.gate.compare_variants import gate_results, left_out_variants
    from export.gate.limits import ROUNDED_LIMITS

    results = gate_results(predict_all(*arguments, **wrong), ROUNDED_LIMITS, LABELS)
    return results, left_out_variants(results)


def count_agreement(probabilities: Any, reference: Any, labels: Any) -> Any:
    from export.gate.limits import AgreementCounts

    arrays = np.array(probabilities, np.float32), np.array(reference, np.float32), np.array(labels, np.int32)
    return AgreementCounts.count(*arrays)


def test_counts_equal_those_by_hand() -> None:
    counts = count_agreement([[0.6, 0.4], [0.3, 0.7], [0.2, 0.8]], [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], [0, 0, 1])
    assert (counts.photos, counts.right, counts.reference_right, counts.agreed) == (3, 2, 3, 2)
    assert counts.difference == pytest.approx(0.3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["candidate", "reference"])
def test_nan_and_infinity_give_an_infinite_difference(value: float, side: str) -> None:
    good, bad = [[0.9, 0.1]], [[0.9, value]]
    counts = count_agreement(bad, good, [0]) if side == "candidate" else count_agreement(good, bad, [0])
    assert counts.difference == np.inf


@pytest.mark.parametrize("photos", [1, 10, 19, 100, 1000])
def test_a_rounded_variant_may_lose_one_photo_or_the_limits_share(photos: int) -> None:
    from export.gate.limits import ROUNDED_LIMITS, AgreementCounts

    allowed = max(1, photos // 100)
    assert AgreementCounts(photos, photos - allowed, photos, photos - allowed).failed_limit(ROUNDED_LIMITS) is None
    assert (
        AgreementCounts(photos, photos - allowed - 1, photos, photos - allowed).failed_limit(ROUNDED_LIMITS) is not None
    )


def test_a_rounded_variant_may_disagree_on_5_percent() -> None:
    from export.gate.limits import ROUNDED_LIMITS, AgreementCounts

    assert AgreementCounts(100, 90, 90, 95, 0.9).failed_limit(ROUNDED_LIMITS) is None
    failure = AgreementCounts(100, 90, 90, 94, 0.9).failed_limit(ROUNDED_LIMITS)
    assert failure == "only 94 of 100 photos have the label that Keras gives"


def test_a_variant_better_than_keras_passes() -> None:
    from export.gate.limits import ROUNDED_LIMITS, AgreementCounts

    assert AgreementCounts(100, 95, 90, 95).failed_limit(ROUNDED_LIMITS) is None


def test_an_exact_variant_may_lose_nothing() -> None:
    from export.gate.limits import EXACT_LIMITS, AgreementCounts

    assert AgreementCounts(100, 90, 90, 100, 1e-4).failed_limit(EXACT_LIMITS) is None
    assert (
        AgreementCounts(100, 89, 90, 100, 0.0).failed_limit(EXACT_LIMITS) == "89 of 100 photos right where Keras has 90"
    )
    assert (
        AgreementCounts(100, 90, 90, 99, 0.0).failed_limit(EXACT_LIMITS)
        == "only 99 of 100 photos have the label that Keras gives"
    )
    assert (
        AgreementCounts(100, 90, 90, 100, 2e-4).failed_limit(EXACT_LIMITS)
        == "a probability differs by 2.0e-04 from Keras (limit 1e-04)"
    )


def test_an_exact_variant_may_break_a_tie_the_other_way() -> None:
    from export.gate.limits import EXACT_LIMITS

    assert count_agreement([[0.500001, 0.499999]], [[0.499999, 0.500001]], [1]).failed_limit(EXACT_LIMITS) is None


def test_a_class_may_lose_10_percent_or_two_photos() -> None:
    from export.gate.limits import ROUNDED_LIMITS, AgreementCounts

    def failure(photos: int, missed: int) -> str | None:
        others = (1000 - photos, 900, 900 - missed)  # another class makes up for it
        return AgreementCounts(1000, 950, 950, 1000, 0.0, ((photos, photos - missed, photos), others)).failed_limit(
            ROUNDED_LIMITS, LABELS
        )

    assert failure(100, 10) is None
    assert failure(100, 11) == "89 of 100 photos of 'ant' right where Keras has 100"
    assert failure(3, 2) is None
    assert failure(3, 3) == "0 of 3 photos of 'ant' right where Keras has 3"


def test_counts_include_each_class() -> None:
    counts = count_agreement([[0.6, 0.4], [0.3, 0.7], [0.2, 0.8]], [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], [0, 0, 1])
    assert counts.classes == ((2, 1, 2), (1, 1, 1))
    assert counts.recall_drop == 0.5


def test_variants_that_agree_pass_with_their_measurements() -> None:
    results, left_out = compare()
    assert left_out == {}
    assert [(result.variant, result.runtime) for result in results] == [
        (name, at) for name in VARIANTS for at in ("here", "there")
    ]
    measured = {
        (
            result.photos,
            result.accuracy,
            result.accuracy_drop,
            result.recall_drop,
            result.agreement,
            result.max_difference,
            result.failure,
        )
        for result in results
    }
    assert measured == {(40, 1, 0, 0, 1, 0, "")}


@pytest.mark.parametrize("name", ["saved_model", "float32", "float32_there"])
@pytest.mark.parametrize("wrong", [blind_to_class_two, returns_nan])
def test_an_exact_variant_that_differs_raises_an_error(name: str, wrong: Any) -> None:
    runtime = "there" if name.endswith("there") else "here"
    with pytest.raises(
        GateError, match=rf"{name.removesuffix('_there')}: a probability differs.*on {runtime}; nothing was published"
    ):
        compare(**{name: wrong})


def test_an_int8_file_wrong_in_one_class_is_left_out() -> None:
    results, left_out = compare(int8=blind_to_class_two)
    assert left_out == {"int8": "on here: 30 of 40 photos right where Keras has 40"}
    failed = next(result for result in results if result.failure)
    assert (failed.variant, failed.runtime, failed.accuracy, failed.accuracy_drop) == ("int8", "here", 0.75, 0.25)
    assert (failed.recall_drop, failed.agreement) == (1.0, 0.75)


def test_a_file_wrong_in_a_single_runtime_is_left_out() -> None:
    _, left_out = compare(int8_there=blind_to_class_two)
    assert left_out == {"int8": "on there: 30 of 40 photos right where Keras has 40"}


def test_a_file_that_a_runtime_cannot_load_or_run_is_left_out_with_the_error() -> None:
    def fails(photos: Any) -> Any:
        raise BundleError("the runtime fails")

    results, left_out = compare(int8="cannot load it")
    assert left_out == {"int8": "on here: cannot load it"}
    assert [(result.photos, result.max_difference) for result in results if result.failure] == [(0, None)]
    assert compare(int8_there=fails)[1] == {"int8": "on there: the runtime fails"}


def test_an_int8_file_that_returns_nan_is_left_out() -> None:
    results, left_out = compare(int8=returns_nan)
    assert "int8" in left_out
    assert [result.max_difference for result in results if result.failure] == [None]


def test_by_variant_has_the_predictions_of_the_serving_runtime() -> None:
    predictions = predict_all(int8_there=blind_to_class_two, max_photos=5)
    assert set(predictions.by_variant) == set(VARIANTS)
    np.testing.assert_array_equal(predictions.by_variant["int8"], predictions.reference)


@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 100])
def test_every_photo_is_counted_with_any_number_of_chunks(count: int) -> None:
    sizes: list[int] = []

    def counting(photos: Any) -> Any:
        sizes.append(len(photos))
        return correct(photos)

    counts = counts_of(predict_all(count, float32=counting), "float32", "here")
    assert (counts.photos, counts.right, counts.agreed) == (count, count, count)
    assert sum(sizes) == count
    assert max(sizes) <= 32


def counts_of(predictions: Any, variant: str, runtime: str) -> Any:
    from export.gate.limits import Candidate

    return predictions.counts(Candidate(variant, runtime))


@pytest.mark.parametrize("max_photos", [1, 31, 32, 33, 50])
def test_a_runtime_gets_at_most_its_maximum_of_photos(max_photos: int) -> None:
    sizes: list[int] = []

    def counting(photos: Any) -> Any:
        sizes.append(len(photos))
        return correct(photos)

    predictions = predict_all(100, max_photos, int8_there=counting)
    assert sum(sizes) == max_photos
    assert counts_of(predictions, "int8", "there").photos == max_photos
    assert counts_of(predictions, "int8", "here").photos == 100


def test_a_difference_in_the_last_photo_of_the_last_chunk_is_detected() -> None:
    def wrong_once(photos: Any) -> Any:
        probabilities = correct(photos)
        if len(photos) == 3:
            probabilities[-1] = [0.25, 0.25, 0.25, 0.25]
        return probabilities

    counts = counts_of(predict_all(35, float32=wrong_once), "float32", "here")
    assert counts.difference == pytest.approx(0.72)


def test_the_gate_fails_without_photos() -> None:
    with pytest.raises(GateError, match="no held-out photo"):
        predict_all(0)


def count_without_labels(candidate: list[list[float]], reference: list[list[float]]) -> Any:
    from export.gate.limits import AgreementCounts

    return AgreementCounts.count(np.array(candidate, np.float32), np.array(reference, np.float32), None)


def test_without_labels_the_accuracy_drop_is_expected_from_the_references_probabilities() -> None:
    from export.gate.limits import Candidate

    counts = count_without_labels([[0.4, 0.6], [0.9, 0.1]], [[0.7, 0.3], [0.8, 0.2]])
    result = counts.to_gate_result(Candidate("int8", "here"), None)
    assert result.accuracy is None
    assert result.accuracy_drop == pytest.approx((0.7 - 0.3) / 2)
    assert result.agreement == 0.5


def test_without_labels_a_doubtful_photo_may_change_its_label_and_a_clear_one_not() -> None:
    from export.gate.limits import EXACT_LIMITS, ROUNDED_LIMITS

    doubtful = count_without_labels([[0.49, 0.51]] * 2, [[0.504, 0.496]] * 2)
    assert doubtful.failed_limit(ROUNDED_LIMITS) is None
    clear = count_without_labels([[0.49, 0.51]] * 2, [[0.6, 0.4], [0.4, 0.6]])
    assert clear.failed_limit(ROUNDED_LIMITS) == (
        "an expected drop in accuracy of 10.00% by the Keras model's own probabilities (limit 1.00%)"
    )
    assert count_without_labels([[0.5, 0.50002]], [[0.50002, 0.5]]).failed_limit(EXACT_LIMITS) is not None
