from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.errors import GateError

CLASSES = 4
FORMS = ("saved_model", "float32", "int8")


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


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "saved_model" / "1").mkdir(parents=True)
    (tmp_path / "saved_model" / "1" / "saved_model.pb").write_bytes(b"12345")
    for name in ("float32", "int8"):
        (tmp_path / f"{name}.tflite").write_bytes(b"123")
    return {"saved_model": "saved_model", "float32": "float32.tflite", "int8": "int8.tflite"}


def gate(folder: Path, paths: dict[str, str], count: int = 40, **wrong: Any) -> Any:
    from export.verify import compare, judge

    answers = dict.fromkeys(FORMS, truth) | wrong
    return judge(compare(truth, answers, pictures(count)), paths, folder)


def tally(answer: Any, reference: Any, labels: Any) -> Any:
    from export.verify import Tally

    return Tally.of(np.array(answer, np.float32), np.array(reference, np.float32), np.array(labels, np.int32))


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
    from export.verify import QUANTISED, Tally

    allowed = max(1, photos // 100)
    assert Tally(photos, photos - allowed, photos, photos - allowed).failure(QUANTISED) is None
    assert Tally(photos, photos - allowed - 1, photos, photos - allowed).failure(QUANTISED) is not None


def test_a_quantised_variant_may_disagree_on_a_twentieth() -> None:
    from export.verify import QUANTISED, Tally

    assert Tally(100, 90, 90, 95, 0.9).failure(QUANTISED) is None
    failure = Tally(100, 90, 90, 94, 0.9).failure(QUANTISED)
    assert failure == "only 94 of 100 photos have the label that Keras gives"


def test_a_variant_better_than_keras_passes() -> None:
    from export.verify import QUANTISED, Tally

    assert Tally(100, 95, 90, 95).failure(QUANTISED) is None


def test_an_exact_variant_may_lose_nothing() -> None:
    from export.verify import EXACT, Tally

    assert Tally(100, 90, 90, 100, 1e-4).failure(EXACT) is None
    assert Tally(100, 89, 90, 100, 0.0).failure(EXACT) == "89 of 100 photos right where Keras has 90"
    assert Tally(100, 90, 90, 99, 0.0).failure(EXACT) == "only 99 of 100 photos have the label that Keras gives"
    assert Tally(100, 90, 90, 100, 2e-4).failure(EXACT) == "a probability differs by 2.0e-04 from Keras (limit 1e-04)"


def test_an_exact_variant_may_break_a_tie_the_other_way() -> None:
    from export.verify import EXACT

    assert tally([[0.500001, 0.499999]], [[0.499999, 0.500001]], [1]).failure(EXACT) is None


def test_variants_that_agree_pass_with_what_was_measured(tmp_path: Path, paths: dict[str, str]) -> None:
    passed, left_out = gate(tmp_path, paths)
    assert left_out == {}
    assert tuple(passed) == FORMS
    assert {(one.photos, one.accuracy, one.agreement, one.max_difference) for one in passed.values()} == {(40, 1, 1, 0)}
    assert [(one.path, one.size) for one in passed.values()] == list(zip(paths.values(), (5, 3, 3), strict=True))
    assert [one.runtime for one in passed.values()] == ["tensorflow", "ai-edge-litert", "ai-edge-litert"]


@pytest.mark.parametrize("name", ["saved_model", "float32"])
@pytest.mark.parametrize("wrong", [blind_to_class_two, lost])
def test_an_exact_form_that_differs_stops_everything(
    tmp_path: Path, paths: dict[str, str], name: str, wrong: Any
) -> None:
    with pytest.raises(GateError, match=rf"{name}: a probability differs.*nothing was published"):
        gate(tmp_path, paths, **{name: wrong})


def test_an_int8_file_wrong_in_one_class_is_left_out_with_the_counts(tmp_path: Path, paths: dict[str, str]) -> None:
    passed, left_out = gate(tmp_path, paths, int8=blind_to_class_two)
    assert left_out == {"int8": "30 of 40 photos right where Keras has 40"}
    assert tuple(passed) == ("saved_model", "float32")


def test_an_int8_file_that_answers_nan_is_left_out(tmp_path: Path, paths: dict[str, str]) -> None:
    passed, left_out = gate(tmp_path, paths, int8=lost)
    assert "int8" in left_out
    assert "int8" not in passed


@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 100])
def test_every_photo_is_counted_whatever_the_chunks(count: int) -> None:
    from export.verify import compare

    sizes: list[int] = []

    def counting(photos: Any) -> Any:
        sizes.append(len(photos))
        return truth(photos)

    found = compare(truth, {"float32": counting}, pictures(count)).tally("float32")
    assert (found.photos, found.right, found.agreed) == (count, count, count)
    assert sum(sizes) == count
    assert max(sizes) <= 32


def test_a_difference_in_the_last_photo_of_the_last_chunk_is_seen() -> None:
    from export.verify import compare

    def wrong_once(photos: Any) -> Any:
        answers = truth(photos)
        if len(photos) == 3:
            answers[-1] = [0.25, 0.25, 0.25, 0.25]
        return answers

    found = compare(truth, {"float32": wrong_once}, pictures(35)).tally("float32")
    assert found.difference == pytest.approx(0.72)


def test_without_a_photo_nothing_is_proven() -> None:
    from export.verify import compare

    with pytest.raises(GateError, match="no held-out photo"):
        compare(truth, dict.fromkeys(FORMS, truth), pictures(0))
