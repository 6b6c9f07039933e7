"""Compare the backbones: parameters, file size and one-thread latency by variant, and published ImageNet accuracy.

Each file is a whole classifier, with the default head for two classes. Sizes and times depend on the architecture, not
on the weights, so backbones without packaged weights have random ones.
"""

from collections.abc import Iterator
from typing import Any

import click

from benchmarks.helpers.processes import print_table, run_module
from train_job.backbones.catalog import BACKBONES
from transferlite.inference.variants import DYNAMIC, FLOAT16, FLOAT32, INT8

LITE = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"
MOBILENET_V1 = "https://github.com/tensorflow/models/blob/master/research/slim/nets/mobilenet_v1.md"
MOBILENET_V2 = "https://github.com/tensorflow/models/tree/master/research/slim/nets/mobilenet"
MOBILENET_V3 = "https://keras.io/api/applications/mobilenet/"
KERAS = "https://keras.io/api/applications/"

TOP1 = {
    "efficientnet_lite0": (75.1, LITE),
    "efficientnet_lite1": (76.7, LITE),
    "efficientnet_lite2": (77.6, LITE),
    "mobilenet_v1_025": (41.5, MOBILENET_V1),
    "mobilenet_v2_035": (50.8, MOBILENET_V2),
    "inception_v3": (77.9, KERAS),
    "mobilenet_v2": (71.3, KERAS),
    "mobilenet_v3_small": (68.1, MOBILENET_V3),
    "mobilenet_v3_large": (75.6, MOBILENET_V3),
    "efficientnet_v2_b0": (78.7, KERAS),
    "efficientnet_v2_s": (83.9, KERAS),
    "convnext_tiny": (81.3, KERAS),
    "resnet50": (74.9, KERAS),
}
"""ImageNet top-1 accuracy in percent at the backbone's default input size, and its source."""

HEADER = (
    "backbone",
    "input",
    "parameters",
    FLOAT32,
    FLOAT16,
    DYNAMIC,
    INT8,
    "float32 latency",
    "int8 latency",
    "ImageNet top-1",
)


def rows(names: tuple[str, ...], rounds: int) -> Iterator[list[str]]:
    """Measure one backbone after another, each in a process of its own, and format its row."""
    for name in names:
        result: dict[str, Any] = run_module("benchmarks.runtimes.backbone_side", name, "--rounds", str(rounds))
        sizes = [f"{result['bytes'][variant] / 2**20:.1f} MiB" for variant in (FLOAT32, FLOAT16, DYNAMIC, INT8)]
        times = [f"{result['milliseconds'][variant]:.1f} ms" for variant in (FLOAT32, INT8)]
        top1, source = TOP1[name]
        parameters = f"{result['parameters'] / 1e6:.2f} M"
        yield [name, f"{result['size']} px", parameters, *sizes, *times, f"[{top1}%]({source})"]


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(BACKBONES)), help="Backbone to measure; repeatable.")
@click.option("--rounds", default=100, show_default=True, help="Runs of each file.")
@click.option("--quick", is_flag=True, help="EfficientNet-Lite0 only.")
def main(only: tuple[str, ...], rounds: int, quick: bool) -> None:
    """Print a row per backbone; the two times are the shortest CPU time per photo on one thread."""
    names = only or (("efficientnet_lite0",) if quick else tuple(BACKBONES))
    print_table("python -m benchmarks.runtimes.backbones", HEADER, rows(names, rounds))


if __name__ == "__main__":
    main()
