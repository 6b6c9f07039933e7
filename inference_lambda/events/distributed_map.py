"""Items of Step Functions' Distributed Map: S3 objects that a state machine lists, one by one or in batches.

Sources: https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html,
https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itembatcher.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from inference_lambda.events.bucket_name import bucket_name
from inference_lambda.events.s3 import S3Photo, version_id_of
from transferlite.errors import InputError


@dataclass(frozen=True)
class MapItems:
    """Photos of one child execution."""

    photos: tuple[S3Photo, ...]


def parse_map_items(event: Mapping[str, Any]) -> MapItems | None:
    """Parse a batch ``{"Items": [...], "BatchInput": {...}}`` or one item ``{"Key": ...}``; return None otherwise.

    ``listObjectsV2`` items have a plain ``Key`` and no ``Bucket``: the state machine adds the bucket to each item with
    ItemSelector, or to the batch with ItemBatcher's ``BatchInput``. S3 inventory items have both. A CSV inventory
    URL-encodes keys: put ``"EncodingType": "url"`` (S3's own term) beside the bucket to decode them. An inventory of
    all versions also has ``VersionId``, the version to label.

    Raises:
        InputError: an item has no key or no bucket, or an access point's ARN as its bucket.
    """
    items, shared = event.get("Items"), event.get("BatchInput")
    if isinstance(items, list):
        shared = shared if isinstance(shared, Mapping) else {}
        return MapItems(tuple(_photo(item, shared) for item in items))
    return MapItems((_photo(event, {}),)) if isinstance(event.get("Key"), str) else None


def _photo(item: Any, shared: Mapping[str, Any]) -> S3Photo:
    fields = {**shared, **item} if isinstance(item, Mapping) else {}
    bucket, key = fields.get("Bucket"), fields.get("Key")
    if not isinstance(key, str) or not key:
        raise InputError(
            "a map item has no Key", hint="list objects in the map's ItemReader, or add Key in ItemSelector"
        )
    if not isinstance(bucket, str) or not bucket:
        raise InputError("a map item has no Bucket", hint='add "ItemBatcher": {"BatchInput": {"Bucket": "..."}}')
    key = unquote_plus(key) if fields.get("EncodingType") == "url" else key
    return S3Photo(bucket_name(bucket), key, version_id_of(fields.get("VersionId")))
