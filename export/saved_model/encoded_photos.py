"""The decoder as TensorFlow operations, for a SavedModel that is sent JPEG or PNG bytes.

It does as :func:`transferlite.images.decoder.decode` does, step by step: the same scaling of large JPEGs while they
are decoded,
EXIF orientation, transparency over white, and a bicubic resize in two passes that each round to whole numbers. What
remains is rounding; ``docs/export.md`` has the difference as measured. Other formats than JPEG and PNG are left to
``tf.io.decode_image``, and only JPEGs are turned.
"""

from typing import Any

import tensorflow as tf

from transferlite.images.input_spec import InputSpec

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"
_SCALES = (1, 2, 4, 8)
_EXIF_BYTES = 2**16
_MOST_ENTRIES = 512
_ORIENTATION = 0x0112


def decoded(data: Any, spec: InputSpec) -> Any:
    """Encoded photos, a string tensor ``[N]``, as uint8 ``[N, H, W, 3]``; one that cannot be decoded fails them all."""
    shape = tf.TensorSpec((spec.height, spec.width, 3), tf.uint8)
    return tf.map_fn(lambda one: _decoded_one(one, spec), data, fn_output_signature=shape)


def _decoded_one(data: Any, spec: InputSpec) -> Any:
    decoders = [lambda: _other(data), lambda: _png(data), lambda: _jpeg(data, spec)]
    place = tf.where(_begins(data, _JPEG), 2, tf.where(_begins(data, _PNG), 1, 0))
    pixels = tf.ensure_shape(tf.switch_case(place, decoders), (None, None, 3))
    return tf.ensure_shape(_resized(pixels, spec), (spec.height, spec.width, 3))


def _begins(data: Any, signature: bytes) -> Any:
    return tf.equal(tf.strings.substr(data, 0, len(signature)), signature)


def _jpeg(data: Any, spec: InputSpec) -> Any:
    """A JPEG, upright, by libjpeg's scaling no smaller than twice the model's size."""
    side = 2 * max(spec.height, spec.width)
    scale = tf.reduce_min(tf.io.extract_jpeg_shape(data)[:2] // side)
    place = tf.reduce_sum(tf.cast(scale >= tf.constant(_SCALES[1:]), tf.int32))
    pixels = tf.switch_case(place, [_jpeg_at(data, ratio) for ratio in _SCALES])
    return tf.switch_case(_orientation(data) - 1, _turns(pixels))


def _jpeg_at(data: Any, ratio: int) -> Any:
    return lambda: tf.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _png(data: Any) -> Any:
    """A PNG with what is transparent over white.

    To one of fewer than eight bits and without transparency, TensorFlow adds an alpha of that depth's greatest number.
    """
    layered = tf.cast(tf.io.decode_png(data, channels=4), tf.float32)
    alpha, depth = layered[..., 3:], tf.io.decode_raw(tf.strings.substr(data, 24, 1), tf.uint8)
    added = tf.pow(2.0, tf.minimum(tf.cast(depth, tf.float32), 8)) - 1
    opaque = tf.where(tf.reduce_all(tf.equal(alpha, added)), 1.0, alpha / 255)
    return tf.cast(tf.round(layered[..., :3] * opaque + 255 * (1 - opaque)), tf.uint8)


def _other(data: Any) -> Any:
    return tf.io.decode_image(data, channels=3, expand_animations=False)


def _turns(pixels: Any) -> list[Any]:
    """What undoes each of EXIF's orientations 1 to 8."""
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
    """EXIF's orientation of a JPEG, 1 to 8: the entry of that tag in the first directory; 1 where there is none.

    Source: https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf, 4.5 and 4.6.
    """
    parts = tf.strings.split(tf.strings.substr(data, 0, _EXIF_BYTES), b"Exif\x00\x00", maxsplit=1)
    block = tf.cast(tf.io.decode_raw(tf.concat([parts, [""]], 0)[1], tf.uint8), tf.int64)
    octets = tf.concat([block, [0]], 0)  # what lies beyond the end reads as 0
    little = tf.equal(octets[0], ord("I"))

    def read(places: Any, length: int) -> Any:
        """The numbers of ``length`` bytes that begin at ``places``."""
        spread = tf.cast(places, tf.int64)[..., None] + tf.range(length, dtype=tf.int64)
        found = tf.gather(octets, tf.clip_by_value(spread, 0, tf.size(block, tf.int64)))
        weights = tf.constant([256**place for place in range(length)], tf.int64)
        return tf.reduce_sum(found * tf.where(little, weights, weights[::-1]), axis=-1)

    directory = read(4, 4)
    entries = directory + 2 + 12 * tf.range(tf.minimum(read(directory, 2), _MOST_ENTRIES))
    values = tf.boolean_mask(read(entries + 8, 2), tf.equal(read(entries, 2), _ORIENTATION))
    first = tf.concat([values, [1]], 0)[0]
    return tf.cast(tf.where((first >= 1) & (first <= 8), first, 1), tf.int32)


def _resized(pixels: Any, spec: InputSpec) -> Any:
    """First to the width, then to the height, as Pillow does, whose kernel has the same shape (Keys, a = -0.5)."""
    wide = _whole(tf.image.resize(pixels, (tf.shape(pixels)[0], spec.width), "bicubic", antialias=True))
    return tf.cast(_whole(tf.image.resize(wide, (spec.height, spec.width), "bicubic", antialias=True)), tf.uint8)


def _whole(samples: Any) -> Any:
    return tf.clip_by_value(tf.floor(samples + 0.5), 0, 255)
