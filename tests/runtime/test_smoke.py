from runtime import Predictor
from tests.conftest import Trained
from tests.pictures import jpeg


def test_a_trained_bundle_answers(trained: Trained) -> None:
    answer = Predictor.load(trained.bundle)(jpeg("red", 99))
    assert answer.label == "red"
    assert answer.top[0] == ("red", answer.score)
