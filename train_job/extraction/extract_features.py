"""Compute the feature rows that the feature store lacks, so that each photo runs through the backbone only once."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from train_job.data.augmentation import augment
from train_job.data.example import Example, RejectedPhoto
from train_job.data.load_photos import CONTENT_CODES, WORKERS, DecodedPhoto, load_photos
from train_job.data.photos import Photos
from train_job.extraction.forward_pass import ForwardPass
from train_job.extraction.result_writer import FeatureRequest, ResultWriter
from train_job.progress import Reporter
from train_job.sigterm import stopped_by_sigterm
from train_job.store.feature_store import FeatureStore
from transferlite.errors import TransferLiteError
from transferlite.images.decoder import RGB
from transferlite.images.input_spec import InputSpec
from transferlite.storage.locations import open_store, split_uri
from transferlite.storage.prefetch import prefetch_map


@dataclass
class ExtractionCounts:
    """Work that an extraction did.

    Attributes:
        fetched: photos fetched.
        forwarded: images run through the backbone; a photo has one per view.
        reused: photos whose feature rows were all in the store.
        seconds: wall time.
        waiting: share of ``seconds`` in which the forward pass waited for photos.
        engine: name of the forward pass; ``none`` if nothing was new.
    """

    fetched: int = 0
    forwarded: int = 0
    reused: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    engine: str = "none"


@dataclass(frozen=True)
class ExtractionResult:
    """Result of an extraction.

    Attributes:
        examples: the usable photos with their sha256, in the order given.
        rejected: photos that cannot be used.
        counts: work done.
        new_uris: URIs of the photos that had to be fetched.
    """

    examples: Photos
    rejected: tuple[RejectedPhoto, ...]
    counts: ExtractionCounts
    new_uris: frozenset[str] = frozenset()


def extract_features(
    examples: Sequence[Example],
    request: FeatureRequest,
    store: FeatureStore,
    spec: InputSpec,
    forward: Callable[[], ForwardPass],
    report: Reporter,
    stop: Callable[[], bool] = lambda: False,
) -> ExtractionResult:
    """Compute every requested feature row that ``store`` lacks.

    Rows are written to the store as they are computed, so a stopped job resumes where it left off.

    Args:
        examples: the photos.
        request: feature spaces that each photo needs.
        store: the feature store.
        spec: the input's size.
        forward: builds the forward pass; not called when nothing is new.
        report: shows progress.
        stop: called after each photo; True stops the extraction.

    Raises:
        StoppedError: ``stop`` returned True; finished rows are written.
        UnavailableError: the photos' store or the feature store does not answer.
    """
    extraction = _Extraction(request, store, spec, stop)
    if not all(example.stamp for example in examples):
        examples = list(prefetch_map(_with_stamp, examples, WORKERS))
    new = extraction.select_new(examples)
    if new:
        with report.progress("features", len(new)) as advance:
            extraction.run(new, forward(), advance)
    results = [(example, extraction.result_of(example)) for example in examples]
    usable = Photos.of(replace(example, sha256=result) for example, result in results if isinstance(result, str))
    rejected = tuple(
        replace(result, uri=example.image, row=example.row)
        for example, result in results
        if isinstance(result, RejectedPhoto)
    )
    return ExtractionResult(usable, rejected, extraction.counts, frozenset(example.image for example in new))


def _with_stamp(example: Example) -> Example:
    """The example with its stamp, read from the store if no listing gave it, as for a URI outside the photos' root."""
    if example.stamp:
        return example
    root, key = split_uri(example.image)
    with contextlib.suppress(TransferLiteError):  # fetching the photo reports the error
        return replace(example, stamp=open_store(root).head(key).stamp)
    return example


class _Extraction:
    """An extraction in progress; ``results`` has each photo's sha256 or its rejection, by URI."""

    def __init__(self, request: FeatureRequest, store: FeatureStore, spec: InputSpec, stop: Callable[[], bool]) -> None:
        self.request = request
        self.store = store
        self.spec = spec
        self.stop = stop
        self.counts = ExtractionCounts()
        self.results: dict[str, str | RejectedPhoto] = {}
        self._stored = {view: [store.row_index(space) for space in spaces] for view, spaces in request.spaces.items()}
        self._facts = store.facts()
        self._started: set[str] = set()
        self._overflowed: set[str] = set()

    def result_of(self, example: Example) -> str | RejectedPhoto:
        """The photo's sha256, or why it cannot be used."""
        result = self.results[example.image]
        return _overflow(example) if isinstance(result, str) and result in self._overflowed else result

    def select_new(self, examples: Sequence[Example]) -> list[Example]:
        """The photos that have to be fetched: those without a known row or without facts."""
        uris, stamps = [example.image for example in examples], [example.stamp for example in examples]
        records = self.store.photos().lookup(uris, stamps)
        usable = [record.sha256 for record in records if record is not None and not record.code]
        with_facts = {sha256 for sha256, known in zip(usable, self._facts.contains(usable), strict=True) if known}
        new: list[Example] = []
        for example, record in zip(examples, records, strict=True):
            if record is not None and record.code:
                self.results[example.image] = RejectedPhoto(example.image, example.row, record.code, record.reason)
            elif (
                record is not None
                and record.sha256 in with_facts
                and not self._missing_views(replace(example, sha256=record.sha256))
            ):
                self.results[example.image] = record.sha256
                self.counts.reused += 1
            else:
                new.append(example)
        return new

    def run(self, new: Sequence[Example], forward: ForwardPass, advance: Callable[[], None]) -> None:
        """Fetch, decode and run the photos ``new``; finished rows are written even if an error is raised."""
        started = time.perf_counter()
        writer = ResultWriter(self.request, self.store)
        self.counts.engine = forward.name
        try:
            for (example, view, is_last), outputs in forward.run(self._images(new, writer, advance)):
                self.counts.forwarded += 1
                if not writer.add_rows(view, example.sha256, outputs):
                    self._overflowed.add(example.sha256)
                if is_last:
                    overflows = example.sha256 in self._overflowed
                    self._finish(example, _overflow(example) if overflows else example.sha256, writer, advance)
        except BaseException:
            with contextlib.suppress(TransferLiteError):
                writer.flush()
            raise
        writer.flush()
        self.counts.seconds = time.perf_counter() - started
        self.counts.waiting = forward.busy.waiting(self.counts.seconds)

    def _images(
        self, new: Sequence[Example], writer: ResultWriter, advance: Callable[[], None]
    ) -> Iterator[tuple[tuple[Example, str, bool], Callable[[], RGB]]]:
        """Each missing view as ``(example, view, whether it is the last)``, and a function that makes its image."""
        by_uri = {example.image: example for example in new}
        for loaded in load_photos(new, self.spec, self._is_complete):
            if isinstance(loaded, DecodedPhoto):
                yield from self._views(loaded, writer, advance)
            elif isinstance(loaded, RejectedPhoto):
                self.counts.fetched += loaded.code in CONTENT_CODES
                self._finish(by_uri[loaded.uri], loaded, writer, advance)
            else:
                self._finish_reused(loaded.example, writer, advance)

    def _views(
        self, photo: DecodedPhoto, writer: ResultWriter, advance: Callable[[], None]
    ) -> Iterator[tuple[tuple[Example, str, bool], Callable[[], RGB]]]:
        sha256 = photo.example.sha256
        writer.facts[sha256] = photo.facts
        views = () if sha256 in self._started else self._missing_views(photo.example)
        if not views:  # a copy of a photo that has already been started
            self._finish_reused(photo.example, writer, advance)
            return
        self._started.add(sha256)
        self.counts.fetched += 1
        for view in views:
            yield (photo.example, view, view == views[-1]), partial(augment, photo.image, view, sha256)

    def _finish_reused(self, example: Example, writer: ResultWriter, advance: Callable[[], None]) -> None:
        self.counts.fetched += 1
        self.counts.reused += 1
        self._finish(example, example.sha256, writer, advance)

    def _finish(
        self, example: Example, result: str | RejectedPhoto, writer: ResultWriter, advance: Callable[[], None]
    ) -> None:
        """Record a photo's sha256 or rejection. Raises StoppedError if the job is asked to stop."""
        self.results[example.image] = result
        writer.add_photo(example, result)
        advance()
        if self.stop():
            raise stopped_by_sigterm()

    def _is_complete(self, example: Example) -> bool:
        """Whether the store has the photo's facts and all its rows."""
        return not self._missing_views(example) and bool(self._facts.contains([example.sha256])[0])

    def _missing_views(self, example: Example) -> tuple[str, ...]:
        """Views that lack the row of at least one output in the store."""
        return tuple(
            view
            for view in self.request.views_of(example)
            if any(example.sha256 not in stored for stored in self._stored[view])
        )


def _overflow(example: Example) -> RejectedPhoto:
    """The rejection of a photo whose feature row float16 cannot represent."""
    reason = "the backbone's output is not a number that float16 can represent"
    return RejectedPhoto(example.image, example.row, "overflow", reason)
