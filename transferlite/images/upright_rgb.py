"""Convert a Pillow image of any mode to upright 8-bit RGB."""

from __future__ import annotations

from PIL import ExifTags, Image

from transferlite.images.high_bit_depth import declared_range, has_deep_samples, to_uint8
from transferlite.images.pillow_errors import PILLOW_ERRORS

_TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright_rgb(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation and convert to RGB; transparent pixels become white."""
    # ImageOps.exif_transpose also rewrites the EXIF block, and fails on an unusual one.
    sample_range = declared_range(image) if has_deep_samples(image) else None
    transpose = orientation_transpose(image)
    if transpose is not None:
        image = image.transpose(transpose)
    if sample_range is not None:
        return Image.fromarray(to_uint8(image, sample_range)).convert("RGB")
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")  # convert copies even an RGBA image
        background = Image.new("RGB", rgba.size, "white")
        background.paste(rgba, mask=rgba.getchannel("A"))
        return background
    return image if image.mode == "RGB" else image.convert("RGB")


def orientation_transpose(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that turns the image upright by its EXIF orientation; None if it is upright.

    A damaged EXIF block counts as no orientation.
    """
    try:
        return _TRANSPOSE_OF_ORIENTATION.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except PILLOW_ERRORS:
        return None


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms  # lazy: few photos are LAB, and a cold start would wait for it

    try:
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
    except ImageCms.PyCMSError as error:
        raise ValueError(f"LAB conversion failed ({error})") from error
    if converted is None:
        raise ValueError("LAB conversion failed")
    return converted
