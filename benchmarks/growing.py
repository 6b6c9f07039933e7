"""What 5 % more photos cost: the features of a cold archive in S3, then of the archive with the new photos."""

import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.photos import USUAL
from benchmarks.sides.processes import once, print_table
from benchmarks.sides.s3_server import put_photos, running_s3


def extract(features: str) -> dict[str, Any]:
    """What ``transferlite features extract`` says of its work."""
    words = ["features", "extract", "--images", "s3://photos", "--features", features, "--json"]
    return dict(once("transferlite", *words))


@click.command()
@click.option("--photos", default=1000, show_default=True)
@click.option("--quick", is_flag=True, help="200 photos.")
def main(photos: int, quick: bool) -> None:
    """Print what each of three runs fetched and forwarded, and the seconds of fetching, decoding and forwarding."""
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
        counts = [str(run[what]) for what in ("fetched", "forwarded", "reused")]
        rows.append([name, *counts, f"{run['seconds']:.2f} s", f"{run['seconds'] / cold:.1%}"])
    header = ("run", "fetched", "forwarded", "known", "fetch + decode + forward", "of the cold run's")
    print_table(f"python -m benchmarks.growing ({server.name} on loopback)", header, rows)


if __name__ == "__main__":
    main()
