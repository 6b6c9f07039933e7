import numpy as np

from tests.conftest import Trained
from transferlite.images.decoder import decode
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.predict.self_test import SelfTest
from transferlite.registry.local_bundle import read_manifest
from transferlite.registry.manifest import GOLDEN


def test_drawn_pictures_are_reproducible_and_all_different() -> None:
    from export.gate.golden_pictures import draw_pictures

    first = [picture.tobytes() for picture in draw_pictures()]
    assert first == [picture.tobytes() for picture in draw_pictures()]
    assert len(set(first)) == 16
    assert {(picture.shape, picture.dtype.name) for picture in draw_pictures()} == {((48, 64, 3), "uint8")}


def test_the_least_confident_prediction_is_chosen_first_then_the_furthest() -> None:
    from export.gate.golden_pictures import most_informative

    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.99, 0.01], [0.05, 0.95]], np.float32)
    assert most_informative(probabilities, 2) == [1, 3]
    assert most_informative(probabilities, 3) == [1, 3, 2]
    assert sorted(most_informative(probabilities, 9)) == [0, 1, 2, 3]


def test_equal_predictions_choose_every_picture_once() -> None:
    from export.gate.golden_pictures import most_informative

    assert sorted(most_informative(np.full((4, 2), 0.5, np.float32), 3)) == [0, 1, 2]


def test_a_trained_bundle_contains_the_predictions_of_each_file(trained: Trained) -> None:
    from export.gate.golden_pictures import PICTURES

    manifest = read_manifest(trained.bundle)
    assert manifest.golden == GOLDEN
    assert manifest.files[GOLDEN].size < 30_000
    self_test = SelfTest.from_json((trained.bundle / GOLDEN).read_bytes())
    assert len(self_test.photos) == PICTURES
    assert set(self_test.expected) == manifest.variants.keys() - {"saved_model"}
    for name, expected in self_test.expected.items():
        model = TFLiteClassifier(trained.bundle / manifest.variants[name].path)
        predictions = [model(decode(picture, manifest.input)) for picture in self_test.photos]
        np.testing.assert_allclose(np.stack(predictions), expected, atol=1e-6)
