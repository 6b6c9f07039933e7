"""Photos decoded in a process of their own."""

from pathlib import Path

import numpy as np
import pytest

from inference_lambda.decode_apart import decode_apart
from tests.pictures import jpeg
from transferlite.errors import PhotoError
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec


def test_the_child_decodes_as_the_decoder_and_imports_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    spec = InputSpec(32, 48, "letterbox")
    np.testing.assert_array_equal(decode_apart(jpeg("red"), spec), decode(jpeg("red"), spec))


def test_a_rejected_photo_keeps_its_code() -> None:
    with pytest.raises(PhotoError) as raised:
        decode_apart(b"%PDF-1.7", InputSpec(32, 32))
    assert raised.value.code == "not-image"
