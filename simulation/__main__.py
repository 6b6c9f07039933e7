"""``python -m simulation``: the whole loop under faults, for some seeds; status 1 if a ledger does not balance."""

import sys
import time
import traceback

import click

from simulation.story import play


@click.command()
@click.option("--seed", default=0, show_default=True, help="Of the first run; each further run has the next.")
@click.option("--seeds", default=1, show_default=True, help="How many runs.")
@click.option("--labelled", default=20, show_default=True, help="Photos of each class to learn from.")
@click.option("--uploads", default=40, show_default=True, help="New photos after each change of the model.")
def main(seed: int, seeds: int, labelled: int, uploads: int) -> None:
    """Play the loop and print each ledger: = agrees, ! does not."""
    unbalanced = []
    for number in range(seed, seed + seeds):
        started = time.monotonic()
        try:
            ledger, _ = play(number, labelled, uploads)
        except Exception:  # a part that gave up is a finding, and the other seeds are played all the same
            click.echo(f"seed {number}\n{traceback.format_exc()}")
            unbalanced.append(number)
            continue
        click.echo(f"seed {number}, {time.monotonic() - started:.0f} s")
        for row in ledger.rows():
            click.echo(row)
        if ledger.wrong:
            unbalanced.append(number)
    click.echo(f"{seeds - len(unbalanced)} of {seeds} ledgers balance" + (f"; not: {unbalanced}" if unbalanced else ""))
    sys.exit(1 if unbalanced else 0)


if __name__ == "__main__":
    main()
