"""A file with the signature of a known format is named, and never called "not an image" if it is one."""

import io
import struct
import zipfile

import pytest

from tests.transferlite.damage import FORMS, picture, write
from transferlite.errors import PhotoError
from transferlite.images.decoder import decode
from transferlite.images.signatures import identify


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "application/vnd.oasis.opendocument.text" if name == "mimetype" else "content")
    return file.getvalue()


def iso(brand: bytes) -> bytes:
    return struct.pack(">I4s4sI4s", 20, b"ftyp", brand, 0, b"isom") + bytes(60)


NOT_IMAGES = {
    "PDF": b"%PDF-1.7 and more",
    "HTML": b"<!DOCTYPE html><title>404</title>",
    "HTML page": b"\xef\xbb\xbf \r\n<HTML><body>",
    "XML": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "ZIP": zipped("cat.jpg"),
    "Office": zipped("[Content_Types].xml", "word/document.xml"),
    "Office document": zipped("mimetype", "content.xml"),
    "old Office": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(60),
    "MP4": iso(b"isom"),
    "MP4, MOV": iso(b"qt  "),
    "MOV": struct.pack(">I4s", 8, b"wide") + bytes(60),
    "AVI": b"RIFF\x40\0\0\0AVI LIST" + bytes(60),
    "Matroska": b"\x1aE\xdf\xa3" + bytes(60),
    "gzip": b"\x1f\x8b\x08" + bytes(60),
    "tar": b"cat.jpg".ljust(257, b"\0") + b"ustar\0" + bytes(300),
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    "AppleDouble": b"\0\5\x16\7\0\2\0\0" + bytes(60),
}
UNSUPPORTED = {
    "SVG": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "SVG drawing": b"<!-- drawn --><svg></svg>",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "PostScript": b"\xc5\xd0\xd3\xc6" + bytes(60),
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(60),
    "EMF": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(60),
    "PSB": b"8BPS\0\2" + bytes(60),
    "XCF": b"gimp xcf v011\0" + bytes(60),
    "EXR": b"v/1\x01\2\0\0\0" + bytes(60),
    "HDR": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n",
    "FITS": b"SIMPLE  =                    T".ljust(80),
    "DICOM": bytes(128) + b"DICM" + bytes(60),
    "CR2": b"II*\0\x10\0\0\0CR\2\0" + bytes(60),
    "CR3": iso(b"crx "),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(60),
    "ORF": b"IIRO\x08\0\0\0" + bytes(60),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(60),
    "JPEG XR": b"II\xbc\1" + bytes(60),
    "QOI": b"qoif" + bytes(60),
    "Krita": zipped("x").replace(b"x", b"mimetypeapplication/x-krita", 1),
}


def rejection(data: bytes) -> PhotoError:
    with pytest.raises(PhotoError) as caught:
        decode(data, where="s3://b/cat.jpg")
    return caught.value


@pytest.mark.parametrize("name", NOT_IMAGES)
def test_a_file_that_is_no_image_is_named(name: str) -> None:
    error = rejection(NOT_IMAGES[name])
    assert error.code == "not-image"
    assert error.message.startswith("not an image but a")
    assert name in error.message


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_image_of_a_format_that_is_not_decoded_is_named_with_what_to_do(name: str) -> None:
    error = rejection(UNSUPPORTED[name])
    assert error.code == "unsupported-format"
    assert name in error.message
    assert str(error).startswith("s3://b/cat.jpg: ")
    assert str(error).endswith("; export it as JPEG or PNG")


@pytest.mark.parametrize("data", [b"plain text", b"\0\1\2\3" * 20, b"\xff\xfe", b"RIFF1234ABCD", b"PK\5\6"])
def test_an_unknown_format_is_reported_with_its_first_bytes(data: bytes) -> None:
    error = rejection(data)
    assert error.code == "not-image"
    assert "not an image (starts with" in error.message


def test_a_text_in_utf_16_is_recognised() -> None:
    assert "HTML" in rejection("\ufeff<html>".encode("utf-16-le")).message


WITHOUT_SIGNATURE = {"TGA", "PCX", "DIB", "PPM"}


@pytest.mark.parametrize("form", sorted({*FORMS} - WITHOUT_SIGNATURE - {"MPO"}))
def test_the_start_of_a_decoded_format_is_a_damaged_image_and_never_not_an_image(form: str) -> None:
    modes, options = FORMS[form]
    data = write(picture(modes[0], 32, 32), form, **options[0])
    for length in (17, 24, 40, 60, len(data) // 3):
        assert rejection(data[:length]).code in {"truncated", "unreadable", "unsupported-format"}
    assert rejection(data[:12] + b"\xa5" * 200).code in {"truncated", "unreadable", "unsupported-format", "too-large"}


def test_a_png_without_a_valid_header_is_damaged() -> None:
    assert rejection(b"\x89PNG\r\n\x1a\n/\xc5}P" + bytes(60)).code == "unreadable"


def test_a_gif_without_pixels_is_damaged() -> None:
    assert rejection(b"GIF89a\0\0\x20\0\xf1\3\0" + bytes(60)).code == "unreadable"


def test_every_format_that_is_decoded_and_has_a_signature_is_identified_as_an_image() -> None:
    for form in {*FORMS} - WITHOUT_SIGNATURE - {"HEIF", "JXL"}:
        modes, options = FORMS[form]
        found = identify(write(picture(modes[0], 32, 32), form, **options[0]))
        assert found is not None
        assert found.plugin
        assert found.is_image
