"""``python -m simulation``: run the scenario with several seeds; exit with status 1 if a ledger does not balance."""

import sys
import time
import traceback

import click

from simulation.scenario import run_scenario


@click.command()
@click.option("--seed", default=0, show_default=True, help="Seed of the first run; it grows by 1 per run.")
@click.option("--seeds", default=1, show_default=True, help="Number of runs.")
@click.option("--labelled", default=20, show_default=True, help="Photos per class in the first training.")
@click.option("--uploads", default=40, show_default=True, help="Photos uploaded after each change of the model.")
def main(seed: int, seeds: int, labelled: int, uploads: int) -> None:
    """Run the scenario and print each ledger: = marks a line as expected, ! one that differs."""
    failed_seeds = []
    for current_seed in range(seed, seed + seeds):
        started = time.monotonic()
        try:
            ledger, _ = run_scenario(current_seed, labelled, uploads)
        except Exception:  # report the crash and run the other seeds
            click.echo(f"seed {current_seed}\n{traceback.format_exc()}")
            failed_seeds.append(current_seed)
            continue
        click.echo(f"seed {current_seed}, {time.monotonic() - started:.0f} s")
        for row in ledger.rows():
            click.echo(row)
        if ledger.mismatches:
            failed_seeds.append(current_seed)
    summary = f"{seeds - len(failed_seeds)} of {seeds} ledgers balance"
    click.echo(summary + (f"; failed seeds: {failed_seeds}" if failed_seeds else ""))
    sys.exit(1 if failed_seeds else 0)


if __name__ == "__main__":
    main()
