import numpy as np

from tests.conftest import Trained
from transferlite.images.decoder import decode
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.predict.self_test import SelfTest
from transferlite.registry.local_bundle import read_manifest
from transferlite.registry.manifest import GOLDEN


def test_the_pictures_are_the_same_on_every_call_and_all_different() -> None:
    from export.gate.golden_pictures import drawn

    first = [picture.tobytes() for picture in drawn()]
    assert first == [picture.tobytes() for picture in drawn()]
    assert len(set(first)) == 16
    assert {(picture.shape, picture.dtype.name) for picture in drawn()} == {((48, 64, 3), "uint8")}


def test_the_unsurest_picture_is_kept_and_then_the_furthest_from_it() -> None:
    from export.gate.golden_pictures import telling

    answers = np.array([[0.9, 0.1], [0.6, 0.4], [0.99, 0.01], [0.05, 0.95]], np.float32)
    assert telling(answers, 2) == [1, 3]
    assert telling(answers, 3) == [1, 3, 2]
    assert sorted(telling(answers, 9)) == [0, 1, 2, 3]


def test_every_picture_is_kept_once_though_all_answers_are_alike() -> None:
    from export.gate.golden_pictures import telling

    assert sorted(telling(np.full((4, 2), 0.5, np.float32), 3)) == [0, 1, 2]


def test_a_trained_bundle_holds_what_each_of_its_files_says(trained: Trained) -> None:
    from export.gate.golden_pictures import KEPT

    manifest = read_manifest(trained.bundle)
    assert manifest.golden == GOLDEN
    assert manifest.files[GOLDEN].size < 30_000
    golden = SelfTest.from_json((trained.bundle / GOLDEN).read_bytes())
    assert len(golden.pictures) == KEPT
    assert set(golden.expected) == manifest.variants.keys() - {"saved_model"}
    for name, expected in golden.expected.items():
        model = TFLiteClassifier(trained.bundle / manifest.variants[name].path)
        said = [model(decode(picture, manifest.input)) for picture in golden.pictures]
        np.testing.assert_allclose(np.stack(said), expected, atol=1e-6)
