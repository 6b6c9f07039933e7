"""``transferlite check``: everything that a training would find wrong with its photos, without training."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from export.native_logs import quiet_native_logs
from train_job.data.dataset import Dataset, Example, RejectedPhoto
from train_job.data.labels.read_labels import read_data
from train_job.data.load_photos import Photo, load_photos
from train_job.data.photo_facts import PhotoFacts
from train_job.data.split import assign_splits
from train_job.options import TrainOptions
from train_job.pipeline.csv_records import quarantine_csv
from train_job.progress import Reporter
from train_job.quality.codes import what_to_do
from train_job.quality.duplicates import deduplicate, near_duplicates
from train_job.quality.findings import CheckResult, find_problems
from train_job.sigterm import StopRequest, on_sigterm
from transferlite.errors import AccessDeniedError
from transferlite.images.input_spec import InputSpec
from transferlite.storage.locations import open_store

_SPEC = InputSpec(224, 224)
"""The size photos are decoded to: large JPEGs are scaled on the way, as in training."""

_NAMED = 3  # findings of each code that are printed; the files have all


def check(options: TrainOptions, out: str, report: Reporter) -> CheckResult:
    """Fetch and decode every photo, and write ``quarantine.csv``, ``notes.csv`` and ``check.json`` to ``out``.

    Raises:
        InputError: there is nothing to look at, or more than ``options.fail_over`` of the photos cannot be used, or a
            class has none; the files are written first.
        StoppedError: SIGTERM.
        UnavailableError: the store stopped answering.
    """
    store = open_store(out)
    store.check_writable()
    with on_sigterm() as stop:
        dataset = read_data(options, report)
        with quiet_native_logs():  # libtiff has a lot to say of damaged files
            examples, rejects, facts = _look(dataset.examples, report, stop)
    _check_access(examples, rejects)
    once = deduplicate(examples)
    looked_at = _of_those(dataset, once.examples, (*rejects, *once.rejects))
    near = near_duplicates(looked_at.examples, facts, [])
    splits = assign_splits(looked_at.examples, options.split.used_for(looked_at.examples), {}, near.groups)
    checked = find_problems(looked_at, facts, near, splits, once.notes)
    store.put("quarantine.csv", quarantine_csv(looked_at.rejected).encode())
    store.put("notes.csv", quarantine_csv(checked.notes).encode())
    store.put("check.json", checked.to_json().encode())
    _tell(looked_at, checked, out, report)
    looked_at.check_share(options.fail_over)
    dataset.of_those(once.examples, (*rejects, *once.rejects))
    return checked


def _look(
    examples: Sequence[Example], report: Reporter, stop: StopRequest
) -> tuple[list[Example], list[RejectedPhoto], dict[str, PhotoFacts]]:
    """Every photo fetched and decoded: those that can be used, with their sha256, those that cannot, and the facts."""
    usable: list[Example] = []
    rejects: list[RejectedPhoto] = []
    facts: dict[str, PhotoFacts] = {}
    with report.counting("check", len(examples)) as advance:
        for loaded in load_photos(examples, _SPEC):
            if isinstance(loaded, Photo):
                usable.append(loaded.example)
                facts[loaded.example.sha256] = loaded.facts
            elif isinstance(loaded, RejectedPhoto):
                rejects.append(loaded)
            advance()
            stop.check()
    return usable, rejects, facts


def _check_access(examples: Sequence[Example], rejects: Sequence[RejectedPhoto]) -> None:
    if not examples and rejects and all(reject.code == "forbidden" for reject in rejects):
        raise AccessDeniedError("no photo may be read: " + rejects[0].reason, where=rejects[0].uri)


def _of_those(dataset: Dataset, examples: tuple[Example, ...], rejects: Iterable[RejectedPhoto]) -> Dataset:
    """As :meth:`Dataset.of_those`, but a class that is left without a photo is to be reported first."""
    there = {example.label for example in examples}
    labels = tuple(label for label in dataset.labels if label in there)
    return _Unchecked(examples, labels, (*dataset.rejected, *rejects), dataset.unlabelled)


class _Unchecked(Dataset):
    """A data set that may be too poor to train on."""

    def __post_init__(self) -> None:
        pass


def _tell(dataset: Dataset, checked: CheckResult, out: str, report: Reporter) -> None:
    """The first findings of each code, and how many there are."""
    found: dict[str, list[RejectedPhoto]] = defaultdict(list)
    for one in (*dataset.rejected, *checked.notes):
        found[one.code].append(one)
    for code, several in found.items():
        report.line(f"{code}: {len(several)}; {what_to_do(code)}")
        for one in several[:_NAMED]:
            row = f" (row {one.row})" if one.row else ""
            report.line(f"    {one.uri}{row}: {one.reason}" if one.uri else f"    {one.reason}")
    report.line(
        f"{len(dataset.examples)} photos can be used, {len(dataset.rejected)} are left out;"
        f" see quarantine.csv, notes.csv and check.json in {out}"
    )
