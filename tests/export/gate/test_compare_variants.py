from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from transferlite.errors import BundleError, GateError

CLASSES = 4
VARIANTS = ("saved_model", "float32", "int8")
LABELS = ("ant", "bee", "cat", "dog")


def truth(photos: Any) -> Any:
    """A model that reads the class from the first pixel: probability 0.97 for it, 0.01 for each other."""
    return np.where(np.arange(CLASSES) == photos[:, 0, 0, :1], 0.97, 0.01).astype(np.float32)


def blind_to_class_two(photos: Any) -> Any:
    answers = truth(photos)
    answers[photos[:, 0, 0, 0] == 2] = [0.97, 0.01, 0.01, 0.01]
    return answers


def lost(photos: Any) -> Any:
    answers = truth(photos)
    answers[-1, 1] = np.nan
    return answers


def pictures(count: int) -> Iterator[tuple[Any, int]]:
    for number in range(count):
        yield np.full((8, 8, 3), number % CLASSES, np.uint8), number % CLASSES


def gate(count: int = 40, most: int = 1000, **wrong: Any) -> Any:
    """Answered: each variant in two runtimes, of which the second is asked at most ``most`` photos."""
    from export.gate.compare_variants import ExportedFile, RuntimeUnderTest, compare

    forms = {}
    for name in VARIANTS:
        forms[ExportedFile(name, "here")] = RuntimeUnderTest(wrong.get(name, truth), 1000)
        forms[ExportedFile(name, "there")] = RuntimeUnderTest(wrong.get(f"{name}_there", truth), most)
    return compare(truth, forms, pictures(count))


def verdict(*arguments: Any, **wrong: Any) -> Any:
    from export.gate.compare_variants import REDUCED, gate_failure, left_out

    proofs = gate_failure(gate(*arguments, **wrong), REDUCED, LABELS)
    return proofs, left_out(proofs)


def tally(answer: Any, reference: Any, labels: Any) -> Any:
    from export.gate.compare_variants import AgreementCounts

    return AgreementCounts.of(np.array(answer, np.float32), np.array(reference, np.float32), np.array(labels, np.int32))


def test_a_tally_counts_as_one_does_by_hand() -> None:
    counts = tally([[0.6, 0.4], [0.3, 0.7], [0.2, 0.8]], [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], [0, 0, 1])
    assert (counts.photos, counts.right, counts.reference_right, counts.agreed) == (3, 2, 3, 2)
    assert counts.difference == pytest.approx(0.3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["answer", "reference"])
def test_a_number_that_is_none_is_an_infinite_difference(value: float, side: str) -> None:
    good, bad = [[0.9, 0.1]], [[0.9, value]]
    counts = tally(bad, good, [0]) if side == "answer" else tally(good, bad, [0])
    assert counts.difference == np.inf


@pytest.mark.parametrize("photos", [1, 10, 19, 100, 1000])
def test_a_quantised_variant_may_lose_one_photo_or_the_share(photos: int) -> None:
    from export.gate.compare_variants import REDUCED, AgreementCounts

    allowed = max(1, photos // 100)
    assert AgreementCounts(photos, photos - allowed, photos, photos - allowed).failure(REDUCED) is None
    assert AgreementCounts(photos, photos - allowed - 1, photos, photos - allowed).failure(REDUCED) is not None


def test_a_quantised_variant_may_disagree_on_a_twentieth() -> None:
    from export.gate.compare_variants import REDUCED, AgreementCounts

    assert AgreementCounts(100, 90, 90, 95, 0.9).failure(REDUCED) is None
    failure = AgreementCounts(100, 90, 90, 94, 0.9).failure(REDUCED)
    assert failure == "only 94 of 100 photos have the label that Keras gives"


def test_a_variant_better_than_keras_passes() -> None:
    from export.gate.compare_variants import REDUCED, AgreementCounts

    assert AgreementCounts(100, 95, 90, 95).failure(REDUCED) is None


def test_an_exact_variant_may_lose_nothing() -> None:
    from export.gate.compare_variants import EXACT, AgreementCounts

    assert AgreementCounts(100, 90, 90, 100, 1e-4).failure(EXACT) is None
    assert AgreementCounts(100, 89, 90, 100, 0.0).failure(EXACT) == "89 of 100 photos right where Keras has 90"
    assert (
        AgreementCounts(100, 90, 90, 99, 0.0).failure(EXACT) == "only 99 of 100 photos have the label that Keras gives"
    )
    assert (
        AgreementCounts(100, 90, 90, 100, 2e-4).failure(EXACT)
        == "a probability differs by 2.0e-04 from Keras (limit 1e-04)"
    )


def test_an_exact_variant_may_break_a_tie_the_other_way() -> None:
    from export.gate.compare_variants import EXACT

    assert tally([[0.500001, 0.499999]], [[0.499999, 0.500001]], [1]).failure(EXACT) is None


def test_a_class_may_lose_a_tenth_or_two_photos() -> None:
    from export.gate.compare_variants import REDUCED, AgreementCounts

    def lost(photos: int, missed: int) -> str | None:
        others = (1000 - photos, 900, 900 - missed)  # another class makes up for it
        return AgreementCounts(1000, 950, 950, 1000, 0.0, ((photos, photos - missed, photos), others)).failure(
            REDUCED, LABELS
        )

    assert lost(100, 10) is None
    assert lost(100, 11) == "89 of 100 photos of 'ant' right where Keras has 100"
    assert lost(3, 2) is None
    assert lost(3, 3) == "0 of 3 photos of 'ant' right where Keras has 3"


def test_a_tally_counts_each_class() -> None:
    counts = tally([[0.6, 0.4], [0.3, 0.7], [0.2, 0.8]], [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], [0, 0, 1])
    assert counts.classes == ((2, 1, 2), (1, 1, 1))
    assert counts.recall_drop == 0.5


def test_variants_that_agree_pass_with_what_was_measured() -> None:
    proofs, left_out = verdict()
    assert left_out == {}
    assert [(one.variant, one.runtime) for one in proofs] == [
        (name, at) for name in VARIANTS for at in ("here", "there")
    ]
    measured = {
        (one.photos, one.accuracy, one.accuracy_drop, one.recall_drop, one.agreement, one.max_difference, one.failure)
        for one in proofs
    }
    assert measured == {(40, 1, 0, 0, 1, 0, "")}


@pytest.mark.parametrize("name", ["saved_model", "float32", "float32_there"])
@pytest.mark.parametrize("wrong", [blind_to_class_two, lost])
def test_an_exact_form_that_differs_stops_everything(name: str, wrong: Any) -> None:
    place = "there" if name.endswith("there") else "here"
    with pytest.raises(
        GateError, match=rf"{name.removesuffix('_there')}: a probability differs.*on {place}; nothing was published"
    ):
        verdict(**{name: wrong})


def test_an_int8_file_wrong_in_one_class_is_left_out_with_the_counts() -> None:
    proofs, left_out = verdict(int8=blind_to_class_two)
    assert left_out == {"int8": "on here: 30 of 40 photos right where Keras has 40"}
    failed = next(one for one in proofs if one.failure)
    assert (failed.variant, failed.runtime, failed.accuracy, failed.accuracy_drop) == ("int8", "here", 0.75, 0.25)
    assert (failed.recall_drop, failed.agreement) == (1.0, 0.75)


def test_a_file_wrong_in_one_runtime_alone_is_left_out() -> None:
    _, left_out = verdict(int8_there=blind_to_class_two)
    assert left_out == {"int8": "on there: 30 of 40 photos right where Keras has 40"}


def test_a_file_that_a_runtime_cannot_load_or_run_is_left_out_with_its_words() -> None:
    def ended(photos: Any) -> Any:
        raise BundleError("the runtime ended")

    proofs, left_out = verdict(int8="cannot load it")
    assert left_out == {"int8": "on here: cannot load it"}
    assert [(one.photos, one.max_difference) for one in proofs if one.failure] == [(0, None)]
    assert verdict(int8_there=ended)[1] == {"int8": "on there: the runtime ended"}


def test_an_int8_file_that_answers_nan_is_left_out() -> None:
    proofs, left_out = verdict(int8=lost)
    assert "int8" in left_out
    assert [one.max_difference for one in proofs if one.failure] == [None]


def test_the_answers_kept_are_those_of_the_runtime_that_serves() -> None:
    answered = gate(int8_there=blind_to_class_two, most=5)
    assert set(answered.variants) == set(VARIANTS)
    np.testing.assert_array_equal(answered.variants["int8"], answered.reference)


@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 100])
def test_every_photo_is_counted_whatever_the_chunks(count: int) -> None:
    sizes: list[int] = []

    def counting(photos: Any) -> Any:
        sizes.append(len(photos))
        return truth(photos)

    found = counted(gate(count, float32=counting), "float32", "here")
    assert (found.photos, found.right, found.agreed) == (count, count, count)
    assert sum(sizes) == count
    assert max(sizes) <= 32


def counted(answered: Any, variant: str, runtime: str) -> Any:
    from export.gate.compare_variants import ExportedFile

    return answered.tally(ExportedFile(variant, runtime))


@pytest.mark.parametrize("most", [1, 31, 32, 33, 50])
def test_a_runtime_is_asked_no_more_than_its_photos(most: int) -> None:
    sizes: list[int] = []

    def counting(photos: Any) -> Any:
        sizes.append(len(photos))
        return truth(photos)

    answered = gate(100, most, int8_there=counting)
    assert sum(sizes) == most
    assert counted(answered, "int8", "there").photos == most
    assert counted(answered, "int8", "here").photos == 100


def test_a_difference_in_the_last_photo_of_the_last_chunk_is_seen() -> None:
    def wrong_once(photos: Any) -> Any:
        answers = truth(photos)
        if len(photos) == 3:
            answers[-1] = [0.25, 0.25, 0.25, 0.25]
        return answers

    found = counted(gate(35, float32=wrong_once), "float32", "here")
    assert found.difference == pytest.approx(0.72)


def test_without_a_photo_nothing_is_proven() -> None:
    with pytest.raises(GateError, match="no held-out photo"):
        gate(0)
