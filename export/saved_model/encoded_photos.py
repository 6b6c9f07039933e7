"""Decode JPEG and PNG bytes with TensorFlow operations, inside the SavedModel.

Repeats the steps of :func:`transferlite.images.decoder.decode`: scale large JPEGs while decoding, apply the EXIF
orientation, put transparency over white, resize bicubically in two passes that each round to whole numbers. Only
rounding differs; ``docs/export.md`` has the measured difference. ``tf.io.decode_image`` decodes other formats, and the
orientation is applied to JPEGs only.
"""

from typing import Any

import tensorflow as tf

from transferlite.images.input_spec import CENTER_CROP, LETTERBOX, InputSpec
from transferlite.images.placement import PADDING

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"
_SCALES = (1, 2, 4, 8)
_EXIF_BYTES = 2**16
_MAX_ENTRIES = 512
_ORIENTATION = 0x0112


def is_jpeg_or_png(data: bytes) -> bool:
    """Whether a file has one of the two formats that ``serve_encoded`` is for."""
    return data.startswith((_JPEG, _PNG))


def decode_photos(data: Any, spec: InputSpec) -> Any:
    """Decode a string tensor ``[N]`` to uint8 ``[N, H, W, 3]``; a photo that cannot be decoded fails the batch."""
    shape = tf.TensorSpec((spec.height, spec.width, 3), tf.uint8)
    return tf.map_fn(lambda photo: _decode(photo, spec), data, fn_output_signature=shape)


def _decode(data: Any, spec: InputSpec) -> Any:
    decoders = [lambda: _other(data), lambda: _png(data), lambda: _jpeg(data, spec)]
    index = tf.where(_starts_with(data, _JPEG), 2, tf.where(_starts_with(data, _PNG), 1, 0))
    pixels = tf.ensure_shape(tf.switch_case(index, decoders), (None, None, 3))
    return tf.ensure_shape(_resize(pixels, spec), (spec.height, spec.width, 3))


def _starts_with(data: Any, signature: bytes) -> Any:
    return tf.equal(tf.strings.substr(data, 0, len(signature)), signature)


def _jpeg(data: Any, spec: InputSpec) -> Any:
    """Decode a JPEG upright, scaled down by libjpeg to no less than twice the model's size."""
    side = 2 * max(spec.height, spec.width)
    scale = tf.reduce_min(tf.io.extract_jpeg_shape(data)[:2] // side)
    index = tf.reduce_sum(tf.cast(scale >= tf.constant(_SCALES[1:]), tf.int32))
    pixels = tf.switch_case(index, [_jpeg_decoder(data, ratio) for ratio in _SCALES])
    return tf.switch_case(_orientation(data) - 1, _upright(pixels))


def _jpeg_decoder(data: Any, ratio: int) -> Any:
    return lambda: tf.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _png(data: Any) -> Any:
    """Decode a PNG, with transparency over white.

    TensorFlow adds an alpha channel to opaque PNGs. With fewer than 8 bits, its value is the largest of that depth.
    """
    rgba = tf.cast(tf.io.decode_png(data, channels=4), tf.float32)
    alpha, depth = rgba[..., 3:], tf.io.decode_raw(tf.strings.substr(data, 24, 1), tf.uint8)
    added = tf.pow(2.0, tf.minimum(tf.cast(depth, tf.float32), 8)) - 1
    opacity = tf.where(tf.reduce_all(tf.equal(alpha, added)), 1.0, alpha / 255)
    return tf.cast(tf.round(rgba[..., :3] * opacity + 255 * (1 - opacity)), tf.uint8)


def _other(data: Any) -> Any:
    return tf.io.decode_image(data, channels=3, expand_animations=False)


def _upright(pixels: Any) -> list[Any]:
    """Functions that undo each EXIF orientation, 1 to 8."""
    return [
        lambda: pixels,
        lambda: tf.reverse(pixels, [1]),
        lambda: tf.reverse(pixels, [0, 1]),
        lambda: tf.reverse(pixels, [0]),
        lambda: tf.transpose(pixels, (1, 0, 2)),
        lambda: tf.reverse(tf.transpose(pixels, (1, 0, 2)), [1]),
        lambda: tf.reverse(tf.transpose(pixels, (1, 0, 2)), [0, 1]),
        lambda: tf.reverse(tf.transpose(pixels, (1, 0, 2)), [0]),
    ]


def _orientation(data: Any) -> Any:
    """Read the EXIF orientation of a JPEG, 1 to 8, from the first directory; 1 if there is none.

    Source: https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf, 4.5 and 4.6.
    """
    parts = tf.strings.split(tf.strings.substr(data, 0, _EXIF_BYTES), b"Exif\x00\x00", maxsplit=1)
    block = tf.cast(tf.io.decode_raw(tf.concat([parts, [""]], 0)[1], tf.uint8), tf.int64)
    octets = tf.concat([block, [0]], 0)  # bytes beyond the end read as 0
    little_endian = tf.equal(octets[0], ord("I"))

    def read(offsets: Any, length: int) -> Any:
        """Read the integers of ``length`` bytes at ``offsets``."""
        indices = tf.cast(offsets, tf.int64)[..., None] + tf.range(length, dtype=tf.int64)
        values = tf.gather(octets, tf.clip_by_value(indices, 0, tf.size(block, tf.int64)))
        weights = tf.constant([256**i for i in range(length)], tf.int64)
        return tf.reduce_sum(values * tf.where(little_endian, weights, weights[::-1]), axis=-1)

    directory = read(4, 4)
    entries = directory + 2 + 12 * tf.range(tf.minimum(read(directory, 2), _MAX_ENTRIES))
    values = tf.boolean_mask(read(entries + 8, 2), tf.equal(read(entries, 2), _ORIENTATION))
    first = tf.concat([values, [1]], 0)[0]
    return tf.cast(tf.where((first >= 1) & (first <= 8), first, 1), tf.int32)


def _resize(pixels: Any, spec: InputSpec) -> Any:
    """Place the photo in the input as the decoder does, resized to the width, then to the height, as by Pillow.

    The kernel is Pillow's, too (Keys, a = -0.5).
    """
    pixels = _centre_crop(pixels, spec) if spec.resize == CENTER_CROP else pixels
    shape = tf.shape(pixels)
    height, width = _fit(shape[0], shape[1], spec) if spec.resize == LETTERBOX else (spec.height, spec.width)
    wide = _round(tf.image.resize(pixels, (shape[0], width), "bicubic", antialias=True))
    resized = tf.cast(_round(tf.image.resize(wide, (height, width), "bicubic", antialias=True)), tf.uint8)
    top, left = (spec.height - height) // 2, (spec.width - width) // 2
    margins = [(top, spec.height - height - top), (left, spec.width - width - left), (0, 0)]
    return tf.pad(resized, margins, constant_values=PADDING) if spec.resize == LETTERBOX else resized


def _centre_crop(pixels: Any, spec: InputSpec) -> Any:
    """The largest part of the input's shape in the middle, as :func:`transferlite.images.placement.place` has it."""
    shape = tf.shape(pixels)
    height, width = _largest(spec.height, spec.width, shape[0], shape[1])
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def _fit(height: Any, width: Any, spec: InputSpec) -> Any:
    return _largest(height, width, spec.height, spec.width)


def _largest(height: Any, width: Any, max_height: Any, max_width: Any) -> Any:
    """The largest size of the shape ``height`` x ``width`` within the maximum, in 64-bit integers."""
    height, width, max_height, max_width = (tf.cast(side, tf.int64) for side in (height, width, max_height, max_width))
    is_wider = width * max_height > height * max_width
    scaled_height = tf.maximum((2 * height * max_width + width) // (2 * width), 1)
    scaled_width = tf.maximum((2 * width * max_height + height) // (2 * height), 1)
    chosen = tf.where(is_wider, scaled_height, max_height), tf.where(is_wider, max_width, scaled_width)
    return tuple(tf.cast(side, tf.int32) for side in chosen)


def _round(samples: Any) -> Any:
    return tf.clip_by_value(tf.floor(samples + 0.5), 0, 255)
