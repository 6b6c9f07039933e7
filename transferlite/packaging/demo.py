"""The whole loop on one machine: a local S3, real pictures, a training job, S3 events, the Lambda handler's answers."""

import csv
import importlib
import io
import logging
import os
import shlex
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import click

from transferlite.child_python import module_command
from transferlite.errors import InputError, MissingExtraError, TransferLiteError
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore
from transferlite.storage.locations import open_store
from transferlite.storage.s3_boto3 import s3_client
from transferlite.storage.store import Store

DATA, MODELS, PREDICTIONS = "demo-photos", "demo-models", "demo-predictions"


def run_demo(photos: str | None, out: Path, epochs: int) -> None:
    """Upload labelled pictures, train, publish, send S3 events for pictures held back, and print the answers.

    Args:
        photos: a folder per class; None for the 200 pictures that scikit-image ships.
        out: where copies of all that the demo made stay.
        epochs: of the head.

    Raises:
        InputError: the folder has fewer than four photos of a class.
        TransferLiteError: a step failed, or most of the answers were wrong.
    """
    out.mkdir(parents=True, exist_ok=True)
    source = FolderStore(Path(photos)) if photos else _write_pictures(out / "pictures")
    with local_s3() as endpoint:
        click.echo(f"local S3 at {endpoint}")
        training, held_back = _upload(source)
        click.echo(f"uploaded {len(training)} labelled photos and label-train.csv to s3://{DATA}")
        _train(epochs)
        right, records = _send_events(held_back)
        click.echo(f"{right} of {len(held_back)} predictions are right")
        _keep(out, records)
    if right * 2 <= len(held_back):
        raise TransferLiteError("most predictions are wrong", hint="are the photos in the right folders?")


@contextmanager
def local_s3() -> Iterator[str]:
    """An S3 server in this process on a free loopback port, and this process's AWS environment pointed at it."""
    try:
        from moto.server import ThreadedMotoServer
    except ModuleNotFoundError:
        raise MissingExtraError("moto", "demo") from None
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    before = dict(os.environ)
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
            os.environ.pop(name, None)
        os.environ |= {
            "AWS_ENDPOINT_URL": endpoint,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        s3_client.cache_clear()
        yield endpoint
    finally:
        s3_client.cache_clear()
        os.environ.clear()
        os.environ.update(before)
        server.stop()


def _write_pictures(folder: Path) -> FolderStore:
    """scikit-image's ``lfw_subset``: 100 faces, 100 pieces of background, 25x25 grey, a folder a class."""
    try:
        import skimage.data
    except ModuleNotFoundError:
        raise MissingExtraError("scikit-image", "demo") from None
    import numpy as np
    from PIL import Image

    store = FolderStore(folder)
    for number, picture in enumerate(skimage.data.lfw_subset()):
        label = "face" if number < 100 else "background"
        png = io.BytesIO()
        Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(png, "PNG")
        store.put(f"{label}/{label}.{number:03}.png", png.getvalue())
    return store


def _upload(source: Store) -> tuple[list[str], dict[str, str]]:
    """Put the photos into the data bucket; a tenth of each class, at least one, is held back: name -> its label."""
    from transferlite.images.find_photos import is_photo

    by_label: dict[str, list[str]] = defaultdict(list)
    for entry in source.entries():
        label, slash, _ = entry.key.partition("/")
        if slash and is_photo(entry.key):
            by_label[label].append(entry.key)
    if len(by_label) < 2 or min(map(len, by_label.values())) < 4:
        raise InputError("needs two folders, a class each, of at least four photos", where=source.uri)
    for name in (DATA, MODELS, PREDICTIONS):
        s3_client().create_bucket(Bucket=name)
    bucket = open_store(f"s3://{DATA}")
    training: list[str] = []
    held_back: dict[str, str] = {}
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["File Name", "Label"])
    for label, keys in by_label.items():
        count = max(len(keys) // 10, 1)
        for key in keys[count:]:
            bucket.put(f"train_img/{key}", source.get(key).data)
            writer.writerow([key, label])
            training.append(key)
        for key in keys[:count]:
            bucket.put(f"uploads/{key}", source.get(key).data)
            held_back[f"uploads/{key}"] = label
    bucket.put("label-train.csv", table.getvalue().encode())
    return training, held_back


def _train(epochs: int) -> None:
    words = ["train", "--labels", f"s3://{DATA}/label-train.csv", "--images", f"s3://{DATA}/train_img"]
    words += ["--registry", f"s3://{MODELS}", "--epochs", str(epochs)]
    click.echo(f"$ transferlite {shlex.join(words)}")
    status = subprocess.run(module_command("transferlite", *words), check=False).returncode
    if status:
        raise TransferLiteError(f"the training job ended with status {status}")


def _send_events(held_back: dict[str, str]) -> tuple[int, list[dict[str, Any]]]:
    """What S3 would send for each photo, through the function's own handler; prints each class's first answer."""
    os.environ |= {"TRANSFERLITE_REGISTRY": f"s3://{MODELS}", "TRANSFERLITE_OUTPUT_BUCKET": PREDICTIONS}
    lambda_handler = importlib.import_module("inference_lambda.handler").lambda_handler

    click.echo(f"sending {len(held_back)} S3 events for photos that the training never saw to the Lambda handler")
    right, shown = 0, set()
    records: list[dict[str, Any]] = []
    for key, label in held_back.items():
        (record,) = lambda_handler(s3_event(DATA, key), None)["records"]
        records.append(record)
        right += record.get("label") == label
        if label not in shown:
            shown.add(label)
            said = f"{record['label']} {record['score']:.3f}" if "label" in record else record["error"]["message"]
            click.echo(f"  {record['image']} -> {said} (it is: {label})")
    return right, records


def s3_event(bucket: str, key: str) -> dict[str, Any]:
    """An ``ObjectCreated`` notification as S3 words it, its key URL-encoded."""
    name = {"bucket": {"name": bucket}, "object": {"key": quote_plus(key, safe="/")}}
    return {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": name}]}


def _keep(out: Path, records: list[dict[str, Any]]) -> None:
    """Copy what lies in the local S3, which ends with the demo, and say where everything is."""
    registry = Registry.open(f"s3://{MODELS}")
    manifest = registry.manifest(registry.resolve("production"))
    for bucket, folder in ((MODELS, out / "registry"), (PREDICTIONS, out)):
        store, copies = open_store(f"s3://{bucket}"), FolderStore(folder)
        for entry in store.entries():
            copies.put(entry.key, store.get(entry.key).data)
    bundle = out / "registry" / "models" / manifest.model_id
    click.echo("the local S3 ends here; copies of what was in it:")
    click.echo(f"  registry     {out / 'registry'}")
    for name, variant in manifest.variants.items():
        click.echo(f"  {name:<12} {bundle / variant.path} ({variant.size / 2**20:.1f} MiB)")
    click.echo(f"  proof        {bundle / 'manifest.json'}")
    click.echo(f"  predictions  {out / 'predictions'} ({len(records)} records)")
    click.echo(f"try: transferlite predict YOUR_PHOTO.jpg --registry {out / 'registry'}")
