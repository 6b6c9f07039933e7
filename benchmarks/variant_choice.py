"""Error rates of the choice of the default variant: how often a variant is taken for as accurate as float32.

Float32 is correct on 90% of the photos. A variant with a drop of D and a noise of N loses D + N of all photos, on which
float32 is correct, and wins N, on which it is wrong. Photos are independent.
"""

import click
import numpy as np

from benchmarks.helpers.processes import print_table
from export.gate.choose_variant import MARGIN, loses_less_than_margin

PHOTOS = (100, 200, 500, 1000)
CASES = ((0.0, 0.0), (0.0, 0.002), (0.0, 0.01), (MARGIN / 2, 0.002), (MARGIN, 0.0), (MARGIN, 0.01), (0.05, 0.01))
"""Drop in accuracy and noise of a simulated variant."""


@click.command()
@click.option("--repeats", default=4000, show_default=True, type=click.IntRange(1), help="Simulated gates per figure.")
def main(repeats: int) -> None:
    """Print how often a variant passes the test, by its true drop in accuracy and by the number of photos."""
    random = np.random.default_rng(0)
    rows = [
        [f"{drop:.1%}", f"{noise:.1%}", *(f"{passed(random, drop, noise, photos, repeats):.1%}" for photos in PHOTOS)]
        for drop, noise in CASES
    ]
    header = ["true drop", "noise", *(f"{photos} photos" for photos in PHOTOS)]
    print_table("python -m benchmarks.variant_choice", header, rows)


def passed(random: np.random.Generator, drop: float, noise: float, photos: int, repeats: int) -> float:
    """Share of simulated gates in which the variant passes."""
    count = 0
    for _ in range(repeats):
        draws = random.random((2, photos))
        reference = draws[0] < 0.9
        flipped = np.where(reference, draws[1] < (drop + noise) / 0.9, draws[1] < noise / 0.1)
        count += loses_less_than_margin(reference, reference ^ flipped)
    return count / repeats


if __name__ == "__main__":
    main()
