"""Step Functions' Distributed Map: objects that a state machine lists and hands out, one by one or in batches.

Sources: https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html,
https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itembatcher.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from inference_lambda.events.s3 import S3Photo, version_of
from transferlite.errors import InputError


@dataclass(frozen=True)
class Items:
    """The photos of one child execution."""

    photos: tuple[S3Photo, ...]


def items_of(event: Mapping[str, Any]) -> Items | None:
    """The objects of a batch ``{"Items": [...], "BatchInput": {...}}`` or of one item ``{"Key": ...}``, else None.

    Items of ``listObjectsV2`` have a ``Key``, as it is, and no ``Bucket``: the state machine adds it, to each item by
    its ItemSelector or to all by ItemBatcher's ``BatchInput``. Items of an S3 inventory have both, but in a CSV one
    keys are URL-encoded: ``"EncodingType": "url"`` beside the bucket, S3's own words for it, has them decoded. A
    ``VersionId``, as an inventory of all versions has it, is the version to label.

    Raises:
        InputError: an item names no object, or nothing says in which bucket it is.
    """
    items, shared = event.get("Items"), event.get("BatchInput")
    if isinstance(items, list):
        shared = shared if isinstance(shared, Mapping) else {}
        return Items(tuple(_photo(one, shared) for one in items))
    return Items((_photo(event, {}),)) if isinstance(event.get("Key"), str) else None


def _photo(item: Any, shared: Mapping[str, Any]) -> S3Photo:
    known = {**shared, **item} if isinstance(item, Mapping) else {}
    bucket, key = known.get("Bucket"), known.get("Key")
    if not isinstance(key, str) or not key:
        raise InputError("an item of the map has no Key", hint="let the map read objects, or select their keys")
    if not isinstance(bucket, str) or not bucket:
        raise InputError(
            "an item of the map has no Bucket", hint='add it: "ItemBatcher": {"BatchInput": {"Bucket": "..."}}'
        )
    key = unquote_plus(key) if known.get("EncodingType") == "url" else key
    return S3Photo(bucket, key, version_of(known.get("VersionId")))
