"""One command over a synthetic store, in a process of its own: its seconds, peak memory and S3 requests.

``prefill`` writes the photo index, facts and feature rows as an earlier training would have; the other
commands are real.
"""

import json
import resource
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.helpers.synthetic_photos import KIND, content, entry, use_synthetic_store
from train_job.arrow import pa
from train_job.data.perceptual_hash import SIGNATURE_BYTES
from train_job.data.photo_facts import FACTS_VERSION
from train_job.data.photos import text_column
from train_job.options import TrainOptions
from train_job.pipeline.run_json import peak_memory
from train_job.progress import Reporter
from train_job.store.feature_parts import digests_to_column
from train_job.store.feature_store import FeatureStore
from train_job.store.photo_index import photo_identities
from transferlite.images.decoder import decode
from transferlite.images.input_spec import DECODER_VERSION

OPTIONS = TrainOptions("s3://photos", "s3://registry", image_size=64, hidden_units=64, epochs=2, promote="always")
OPTIONS = replace(OPTIONS, steps_per_epoch=500, batch_size=256)
BLOCK = 2**16
SIMILAR = 0.01
"""Share of photos that look like the photo before them."""


def prefill(photos: int) -> None:
    """Write what the feature store would hold after a training on ``photos`` photos."""
    from hashlib import sha256

    from train_job.extraction.frozen_backbone import FrozenBackbone

    store, backbone = FeatureStore.open(OPTIONS.feature_store), FrozenBackbone(OPTIONS)
    (space,) = backbone.feature_request.spaces["plain"]
    random = np.random.default_rng(0)
    noise = random.normal(1, 0.05, (4096, space.width)).astype(np.float16)
    images = [(label, partial(decode, content(label), backbone.spec)) for label in range(KIND.classes)]
    centres = np.stack([row for _, (row,) in sorted(backbone.forward_pass().run(images), key=lambda item: item[0])])
    for start in range(0, photos, BLOCK):
        numbers = range(start, min(start + BLOCK, photos))
        digests = np.frombuffer(b"".join(sha256(content(number)).digest() for number in numbers), "S32")
        labels = np.array(numbers) % KIND.classes
        rows = centres[labels].astype(np.float16) * noise[random.integers(0, len(noise), len(labels))]
        store.add(space, digests, rows)
        uris = text_column(f"s3://photos/{KIND.key(number)}" for number in numbers)
        identities = photo_identities(uris, text_column(entry(number).stamp for number in numbers))
        columns = [digests_to_column(identities), uris.cast(pa.binary()), digests_to_column(digests)]
        usable = [pa.array([DECODER_VERSION] * len(digests), pa.int32()), *[pa.array([""] * len(digests))] * 2]
        store.photo_parts.write(_sorted([*columns, *usable], store.photo_parts.files[0][1]))
        signatures = random.integers(0, 256, (len(digests), SIGNATURE_BYTES), np.uint8)
        similar = np.flatnonzero(random.random(len(digests) - 1) < SIMILAR)
        signatures[similar + 1] = signatures[similar]
        facts = [[value] * len(digests) for value in (FACTS_VERSION, "JPEG", KIND.width, KIND.height, 0)]
        columns = [digests_to_column(digests), *facts, list(map(bytes, signatures))]
        store.facts_parts.write(_sorted(columns, store.facts_parts.files[0][1]))


def _sorted(columns: list[Any], schema: pa.Schema) -> pa.Table:
    return pa.table(dict(zip(schema.names, columns, strict=True)), schema).sort_by(schema.names[0])


def run(command: str, photos: int, folder: Path) -> None:
    """Run a command over ``photos`` photos."""
    if command == "prefill":
        prefill(photos)
    elif command == "check":
        from train_job.pipeline.check_data import check_data

        check_data(OPTIONS, str(folder / "check"), Reporter())
    elif command == "plan":
        from train_job.pipeline.retrain_decision import decide_retrain

        decide_retrain(OPTIONS, 1, 64, 10_000, Reporter())
    else:
        from train_job.pipeline.train_job import train

        train(OPTIONS, Reporter())


@click.command()
@click.argument("command", type=click.Choice(["prefill", "train", "check", "plan"]))
@click.argument("photos", type=int)
@click.argument("folder", type=click.Path(path_type=Path))
def main(command: str, photos: int, folder: Path) -> None:
    """Print seconds, peak memory and requests of COMMAND as a line of JSON."""
    (folder / "check").mkdir(exist_ok=True)
    requests = use_synthetic_store(photos, folder)
    started = time.perf_counter()
    run(command, photos, folder)
    sys.stdout.flush()
    used = resource.getrusage(resource.RUSAGE_SELF)
    record = {"seconds": time.perf_counter() - started, "cpu": used.ru_utime + used.ru_stime, "peak": peak_memory()}
    print(json.dumps(record | {"requests": {kind: count for kind, count in requests.items() if kind}}))


if __name__ == "__main__":
    main()
