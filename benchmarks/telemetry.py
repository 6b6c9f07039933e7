"""Time that logs and metrics add to a cold start: our telemetry module, and Powertools for AWS Lambda.

Each side is a process, measured from start to end; the sides take turns. The floor is a bare interpreter with Pillow.
"""

import statistics
import subprocess
import sys
import time

import click

from benchmarks.helpers.processes import ROOT, print_table

_FLOOR = "from PIL import Image; Image.preinit()"
SIDES = {
    "floor: interpreter + Pillow": _FLOOR,
    "+ inference_lambda/observability/telemetry.py": f"{_FLOOR}; "
    "from inference_lambda.observability.telemetry import Metrics; Metrics('n')",
    "+ Powertools' Logger and Metrics": (
        f"{_FLOOR}; from aws_lambda_powertools import Logger, Metrics; Logger(service='s'); Metrics('n', 's')"
    ),
}


def seconds(code: str) -> float:
    """Seconds of a process that runs ``code``. Raises CalledProcessError if a package is not installed."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return time.perf_counter() - start


@click.command()
@click.option("--rounds", default=40, show_default=True, type=click.IntRange(3))
@click.option("--quick", is_flag=True, help="Five rounds.")
def main(rounds: int, quick: bool) -> None:
    """Print the medians, and their ratios to the floor."""
    measured: dict[str, list[float]] = {name: [] for name in SIDES}
    for code in SIDES.values():
        seconds(code)  # writes bytecode and fills the page cache
    for _ in range(5 if quick else rounds):
        for name, code in SIDES.items():
            measured[name].append(seconds(code))
    medians = {name: statistics.median(values) for name, values in measured.items()}
    floor = next(iter(medians.values()))
    rows = [(name, f"{value * 1000:.0f} ms", f"{value / floor:.2f}x") for name, value in medians.items()]
    print_table("python -m benchmarks.telemetry", ("process", "median", "of the floor"), rows)


if __name__ == "__main__":
    main()
