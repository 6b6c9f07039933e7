"""Compute the feature rows that the feature store lacks, so that each photo runs through the backbone only once."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from train_job.arrow import pa, pc
from train_job.data.augmentation import PLAIN, augment
from train_job.data.example import Example, RejectedPhoto, Split
from train_job.data.load_photos import CONTENT_CODES, WORKERS, DecodedPhoto, load_photos
from train_job.data.photos import SPLIT_CODES, Photos, decode_text, text_column
from train_job.digests import Digests, digests_from_hex
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
    photos = _with_stamps(Photos.of(examples))
    extraction = _Extraction(request, store, spec, stop)
    known = store.photos().find(photos)
    is_new = ~known.known | extraction.lack_rows(photos, known.digests)
    is_new[list(known.rejected)] = False
    extraction.counts.reused += len(photos) - int(is_new.sum()) - len(known.rejected)
    new = photos.take(is_new)
    if len(new):
        with report.progress("features", len(new)) as advance:
            extraction.run(new, forward(), advance)
    digests, rejected = known.digests.copy(), dict(known.rejected)
    for position, uri in zip(np.flatnonzero(is_new).tolist(), new.uris.to_pylist(), strict=True):
        result = extraction.result_of(Example(decode_text(uri), ""))
        if isinstance(result, str):
            digests[position] = bytes.fromhex(result)
        else:
            rejected[position] = (result.code, result.reason)
    usable = np.ones(len(photos), bool)
    usable[list(rejected)] = False
    positions = np.array(sorted(rejected), np.int64)
    unusable = zip(photos.take(positions), positions.tolist(), strict=True)
    return ExtractionResult(
        photos.with_digests(digests).take(usable),
        tuple(RejectedPhoto(example.image, example.row, *rejected[position]) for example, position in unusable),
        extraction.counts,
        frozenset(map(decode_text, new.uris.to_pylist())),
    )


def _with_stamps(photos: Photos) -> Photos:
    """The photos with their stamps, read from the store where no listing gave them, as outside the photos' root."""
    unknown = np.array(pc.equal(pc.binary_length(photos.stamps), 0), bool)
    if not unknown.any():
        return photos
    found = prefetch_map(_with_stamp, photos.take(unknown), WORKERS)
    stamps = pc.replace_with_mask(photos.stamps, pa.array(unknown), text_column(example.stamp for example in found))
    return replace(photos, stamps=stamps)


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

    def lack_rows(self, photos: Photos, digests: Digests) -> NDArray[np.bool_]:
        """Which photos lack facts or the row of at least one output in the store, ``[N]``."""
        lacking = self._facts.rows(digests) < 0
        for view, indexes in self._stored.items():
            is_needed = True if view == PLAIN else photos.split_codes != SPLIT_CODES[Split.TEST]
            for index in indexes:
                lacking |= is_needed & (index.parts_of(digests) < 0)
        return lacking

    def run(self, new: Photos, forward: ForwardPass, advance: Callable[[], None]) -> None:
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
        self, new: Photos, writer: ResultWriter, advance: Callable[[], None]
    ) -> Iterator[tuple[tuple[Example, str, bool], Callable[[], RGB]]]:
        """Each missing view as ``(example, view, whether it is the last)``, and a function that makes its image."""
        stamps = dict(
            zip(map(decode_text, new.uris.to_pylist()), map(decode_text, new.stamps.to_pylist()), strict=True)
        )
        for loaded in load_photos(new, self.spec, self._is_complete):
            if isinstance(loaded, DecodedPhoto):
                yield from self._views(loaded, writer, advance)
            elif isinstance(loaded, RejectedPhoto):
                self.counts.fetched += loaded.code in CONTENT_CODES
                self._finish(Example(loaded.uri, "", stamp=stamps[loaded.uri]), loaded, writer, advance)
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
        return not self._missing_views(example) and bool(self._facts.rows(digests_from_hex([example.sha256]))[0] >= 0)

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
