"""``transferlite drift``: is what the model sees now what it was validated on? TensorFlow-free."""

import json
from collections.abc import Iterator

import click

from transferlite.errors import NotFoundError
from transferlite.monitoring.drift import LARGE, Drift, StabilityIndex, find_drift
from transferlite.monitoring.read_records import SAMPLE

OVER = 3
"""The exit status where a model's answers moved more than the threshold."""
_SHOWN = 10


@click.command()
@click.option("--predictions", required=True, metavar="LOCATION", help="Where records are: s3://BUCKET/predictions.")
@click.option("--registry", required=True, metavar="LOCATION", help="Where the models are.")
@click.option("--since", default="7d", show_default=True, help="How far back: 36h, 7d, 2w, or a date.")
@click.option("--threshold", default=LARGE, show_default=True, type=click.FloatRange(0), help="Of the index.")
@click.option("--sample", default=SAMPLE, show_default=True, type=click.IntRange(1), help="Records to read at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def drift(predictions: str, registry: str, since: str, threshold: float, sample: int, as_json: bool) -> None:
    """Compare what models answered lately with their validation photos.

    By model: the population stability index of the predicted classes and of the confidence (below 0.1 little moved,
    above 0.25 much), how often it abstained, and what could not be labelled. The exit status is 3 where an index is
    over --threshold and over what chance would do of so few photos.
    """
    log, found = find_drift(predictions, registry, since, sample)
    if not log.files:
        raise NotFoundError(f"holds no predictions of the last {since}", where=predictions)
    if as_json:
        told = {"since": since, "files": log.files, "files_read": log.read, "models": [one.to_dict() for one in found]}
        click.echo(json.dumps(told | {"over": [one.model_id for one in found if one.exceeds(threshold)]}))
    else:
        part = f", {log.read} of them read" if log.read < log.files else ""
        click.echo(f"{len(log.records)} records of the last {since}, in {log.files} files{part}")
        for one in found:
            for line in _table(one):
                click.echo(line)
    if any(one.exceeds(threshold) for one in found):
        raise click.exceptions.Exit(OVER)


def _table(found: Drift) -> Iterator[str]:
    told, seen = found.to_dict(), found.observed
    yield f"\n{found.model_id}: {seen.photos} photos labelled"
    if found.expected is None:
        yield "  nothing to compare with: its manifest has no distributions of validation photos, or is gone"
    else:
        yield f"  validation photos   {found.expected.photos}"
        yield f"  predicted classes   {_said(found.classes)}"
        yield f"  confidence          {_said(found.confidence)}"
    then = told["validation_abstained"]
    yield f"  abstained           {told['abstained']:.1%}" + ("" if then is None else f" (validation {then:.1%})")
    codes = ", ".join(f"{code} {count}" for code, count in seen.errors.most_common())
    yield f"  not labelled        {told['error_share']:.1%}" + (f" ({codes})" if codes else "")
    for label, share in list(told["shares"].items())[:_SHOWN]:
        before = told["validation_shares"].get(label)
        yield f"    {label:<20} {share:6.1%}" + ("" if before is None else f"  validation {before:6.1%}")
    if len(told["shares"]) > _SHOWN:
        yield f"    and {len(told['shares']) - _SHOWN} more classes"


def _said(index: StabilityIndex | None) -> str:
    if index is None:
        return "no photos"
    return f"PSI {index.value:.3f}: {index.reading} (chance alone: up to {index.chance:.3f})"
