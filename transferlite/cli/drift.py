"""``transferlite drift``: compare predictions in service with those on the validation photos."""

import json
from collections.abc import Iterator

import click

from transferlite.cli.options import FiniteRange, json_option, registry_option
from transferlite.errors import BundleError, NotFoundError
from transferlite.monitoring.drift import LARGE, Drift, StabilityIndex, find_drift
from transferlite.monitoring.read_records import SAMPLE

DRIFTED = 3
"""Exit status if a model's drift exceeds the threshold."""
_SHOWN_CLASSES = 10


@click.command()
@click.option("--predictions", required=True, metavar="LOCATION", help="Records: s3://BUCKET/predictions, or a folder.")
@registry_option
@click.option("--since", default="7d", show_default=True, metavar="TIME", help="Start: 36h, 7d or 2w ago, or a date.")
@click.option(
    "--threshold",
    default=LARGE,
    show_default=True,
    type=FiniteRange(0),
    help="Maximum population stability index (PSI).",
)
@click.option("--sample", default=SAMPLE, show_default=True, type=click.IntRange(1), help="Maximum records to read.")
@json_option
def drift(predictions: str, registry: str, since: str, threshold: float, sample: int, as_json: bool) -> None:
    """Compare recent predictions with those on the validation photos.

    For each model: the population stability index (PSI) of the predicted classes and of the confidence (below 0.1 no
    shift, above 0.25 a large one), the share of unknown predictions, and the errors. The exit status is 3 if a PSI
    exceeds both --threshold and what chance explains with this number of photos. A version that is unknown, damaged or
    unsigned is skipped; if all are skipped, the exit status is 1.
    """
    sampled, drifts = find_drift(predictions, registry, since, sample)
    if not sampled.files:
        raise NotFoundError(f"has no predictions since {since}", where=predictions)
    if drifts and all(result.skipped for result in drifts):
        reasons = "; ".join(f"{result.model_id}: {result.skipped}" for result in drifts)
        raise BundleError(f"no version could be compared ({reasons})", where=registry)
    drifted = [result.model_id for result in drifts if result.exceeds(threshold)]
    if as_json:
        models = [result.to_dict() for result in drifts]
        summary = {"since": since, "files": sampled.files, "files_read": sampled.read, "models": models}
        click.echo(json.dumps(summary | {"over": drifted}))
    else:
        part = f", {sampled.read} of them read" if sampled.read < sampled.files else ""
        click.echo(f"{len(sampled.records)} records since {since}, in {sampled.files} files{part}")
        for result in drifts:
            for line in _lines(result):
                click.echo(line)
    if drifted:
        raise click.exceptions.Exit(DRIFTED)


def _lines(result: Drift) -> Iterator[str]:
    values, observed = result.to_dict(), result.observed
    yield f"\n{result.model_id}: {observed.photos} photos labelled"
    if result.skipped:
        yield f"  skipped: {result.skipped}"
    elif result.expected is None:
        yield "  nothing to compare with: its manifest has no distributions of validation photos"
    else:
        yield f"  validation photos   {result.expected.photos}"
        yield f"  predicted classes   {_index_text(result.classes)}"
        yield f"  confidence          {_index_text(result.confidence)}"
    unknown = values["validation_abstained"]
    yield f"  unknown             {values['abstained']:.1%}" + (
        "" if unknown is None else f" (validation {unknown:.1%})"
    )
    codes = ", ".join(f"{code} {count}" for code, count in observed.errors.most_common())
    yield f"  not labelled        {values['error_share']:.1%}" + (f" ({codes})" if codes else "")
    for label, share in list(values["shares"].items())[:_SHOWN_CLASSES]:
        expected = values["validation_shares"].get(label)
        yield f"    {label:<20} {share:6.1%}" + ("" if expected is None else f"  validation {expected:6.1%}")
    if len(values["shares"]) > _SHOWN_CLASSES:
        yield f"    and {len(values['shares']) - _SHOWN_CLASSES} more classes"


def _index_text(index: StabilityIndex | None) -> str:
    if index is None:
        return "no photos"
    return f"PSI {index.value:.3f}: {index.reading} (chance alone: up to {index.chance:.3f})"
