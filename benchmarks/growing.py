"""Cost of 5% more photos: extract the features of an archive in S3, then of the archive with new photos."""

import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.helpers.photos import USUAL
from benchmarks.helpers.processes import print_table, run_module
from benchmarks.helpers.s3_server import put_photos, running_s3


def extract(features: str) -> dict[str, Any]:
    """Run ``transferlite features extract`` and return its JSON."""
    options = ["--images", "s3://photos", "--features", features, "--json"]
    return dict(run_module("transferlite", "features", "extract", *options))


@click.command()
@click.option("--photos", default=1000, show_default=True)
@click.option("--quick", is_flag=True, help="200 photos.")
def main(photos: int, quick: bool) -> None:
    """Print the photos that each of three runs fetched and forwarded, and its seconds."""
    count = 200 if quick else photos
    more = count // 20
    with tempfile.TemporaryDirectory() as folder, running_s3(Path(folder)) as server:
        bucket = server.bucket("photos")
        put_photos(bucket, count, USUAL)
        features = f"{folder}/features"
        runs = {f"{count} photos, cold": extract(features)}
        put_photos(bucket, count + more, USUAL)
        runs[f"{more} more"] = extract(features)
        runs["the same again"] = extract(features)
    cold = next(iter(runs.values()))["seconds"]
    rows = []
    for name, run in runs.items():
        counts = [str(run[count]) for count in ("fetched", "forwarded", "reused")]
        rows.append([name, *counts, f"{run['seconds']:.2f} s", f"{run['seconds'] / cold:.1%}"])
    header = ("run", "fetched", "forwarded", "reused", "fetch + decode + forward", "of the cold run")
    print_table(f"python -m benchmarks.growing ({server.name} on loopback)", header, rows)


if __name__ == "__main__":
    main()
