"""The frozen base runs once a photo, ever: every photo's rows, of which only the new ones are fetched and forwarded."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from train_job.data.augmentation import PLAIN, augment
from train_job.data.dataset import Example, RejectedPhoto, Split
from train_job.data.load_photos import CONTENT_CODES, WORKERS, Photo, load_photos
from train_job.data.photo_facts import PhotoFacts
from train_job.extraction.forward_pass import ForwardPass
from train_job.progress import Reporter
from train_job.store.feature_store import FeatureSpace, FeatureStore
from train_job.store.photo_index import PhotoRecord
from transferlite.errors import StoppedError, TransferLiteError
from transferlite.images.decoder import RGB
from transferlite.images.input_spec import DECODER_VERSION, InputSpec
from transferlite.storage.locations import open_store, split_uri
from transferlite.storage.prefetch import prefetch_map

PART_BYTES = 32 * 2**20
"""Rows that are written at once: 13,000 pooled ones of EfficientNet-Lite0, or a few activations at a cut."""
PART_SECONDS = 30.0
"""The longest that a finished row waits to be written: what a killed job can lose."""


@dataclass(frozen=True)
class FeatureRequest:
    """The rows that each photo should have: ``spaces[view]`` holds a space for each output of the feature model."""

    spaces: Mapping[str, tuple[FeatureSpace, ...]]

    def views_of(self, example: Example) -> tuple[str, ...]:
        """A photo that the user chose for testing is never trained on, and needs no augmented views."""
        return (PLAIN,) if example.split is Split.TEST else tuple(self.spaces)


@dataclass
class ExtractionCounts:
    """What the features cost: photos fetched, images forwarded, photos whose rows were all there already.

    ``waiting`` is the share of ``seconds`` in which the forward pass waited for photos.
    """

    fetched: int = 0
    forwarded: int = 0
    reused: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    engine: str = "none"


@dataclass(frozen=True)
class ExtractionResult:
    """The usable photos with their sha256, in the order given; those that are not; the cost; the URIs of new photos."""

    examples: tuple[Example, ...]
    rejects: tuple[RejectedPhoto, ...]
    counts: ExtractionCounts
    new: frozenset[str] = frozenset()


def extract_features(
    examples: Sequence[Example],
    wanted: FeatureRequest,
    store: FeatureStore,
    spec: InputSpec,
    forward: Callable[[], ForwardPass],
    report: Reporter,
    stop: Callable[[], bool] = lambda: False,
) -> ExtractionResult:
    """See to it that ``store`` has every wanted row of every photo.

    Args:
        examples: the photos.
        wanted: which rows.
        store: where rows are kept. They are written as they come, so that a job that is stopped loses none.
        spec: the input's size.
        forward: builds the forward pass; not called when nothing is new.
        report: for progress.
        stop: asked after each photo.

    Raises:
        StoppedError: ``stop`` said so; what was done is written.
        UnavailableError: the store of the photos or of the rows stopped answering.
        InputError: a row does not fit float16.
    """
    work = _Work(wanted, store, spec, stop)
    if not all(example.stamp for example in examples):
        examples = list(prefetch_map(_stamped, examples, WORKERS))
    new = work.unknown(examples)
    if new:
        with report.counting("features", len(new)) as advance:
            work.run(new, forward(), advance)
    found = [(example, work.found[example.image]) for example in examples]
    usable = tuple(replace(example, sha256=result) for example, result in found if isinstance(result, str))
    rejects = tuple(
        replace(result, uri=example.image, row=example.row)
        for example, result in found
        if isinstance(result, RejectedPhoto)
    )
    return ExtractionResult(usable, rejects, work.counts, frozenset(example.image for example in new))


def _stamped(example: Example) -> Example:
    """The example with a stamp also where no listing told it, as for a URI outside the photos' root."""
    if example.stamp:
        return example
    root, key = split_uri(example.image)
    with contextlib.suppress(TransferLiteError):  # what is wrong is said when the photo is fetched
        return replace(example, stamp=open_store(root).head(key).stamp)
    return example


class _Work:
    """One extraction under way; ``found`` has each photo's sha256 or why it cannot be used, by its URI."""

    def __init__(self, wanted: FeatureRequest, store: FeatureStore, spec: InputSpec, stop: Callable[[], bool]) -> None:
        self.wanted = wanted
        self.store = store
        self.spec = spec
        self.stop = stop
        self.counts = ExtractionCounts()
        self.found: dict[str, str | RejectedPhoto] = {}
        self._known = {name: [store.keys(space) for space in spaces] for name, spaces in wanted.spaces.items()}
        self._claimed: set[str] = set()

    def unknown(self, examples: Sequence[Example]) -> list[Example]:
        """The photos that have to be fetched; what the index says of the others is noted."""
        index = self.store.photos()
        records = index.lookup([one.image for one in examples], [one.stamp for one in examples])
        new: list[Example] = []
        for example, record in zip(examples, records, strict=True):
            if record is not None and record.code:
                self.found[example.image] = RejectedPhoto(example.image, example.row, record.code, record.reason)
            elif record is not None and not self._missing(replace(example, sha256=record.sha256)):
                self.found[example.image] = record.sha256
                self.counts.reused += 1
            else:
                new.append(example)
        return new

    def run(self, new: Sequence[Example], forward: ForwardPass, advance: Callable[[], None]) -> None:
        """Fetch, decode and forward ``new``; whatever happens, what is done is written."""
        started = time.perf_counter()
        writer = _Writer(self.wanted, self.store)
        self.counts.engine = forward.name
        try:
            for (example, name, last), outputs in forward.run(self._images(new, writer, advance)):
                self.counts.forwarded += 1
                writer.row(name, example.sha256, outputs)
                if last:
                    self._note(example, example.sha256, writer, advance)
        except BaseException:
            with contextlib.suppress(TransferLiteError):
                writer.flush()
            raise
        writer.flush()
        self.counts.seconds = time.perf_counter() - started
        self.counts.waiting = forward.busy.waiting(self.counts.seconds)

    def _images(
        self, new: Sequence[Example], writer: "_Writer", advance: Callable[[], None]
    ) -> Iterator[tuple[tuple[Example, str, bool], Callable[[], RGB]]]:
        """Each missing view of each photo: ``(example, view, whether it is the photo's last)``, and how to make it."""
        by_uri = {example.image: example for example in new}
        for loaded in load_photos(new, self.spec, lambda example: not self._missing(example)):
            if isinstance(loaded, Photo):
                yield from self._views(loaded, writer, advance)
            elif isinstance(loaded, RejectedPhoto):
                self.counts.fetched += loaded.code in CONTENT_CODES
                self._note(by_uri[loaded.uri], loaded, writer, advance)
            else:
                self._seen(loaded.example, writer, advance)

    def _views(
        self, photo: Photo, writer: "_Writer", advance: Callable[[], None]
    ) -> Iterator[tuple[tuple[Example, str, bool], Callable[[], RGB]]]:
        sha256 = photo.example.sha256
        writer.facts[sha256] = photo.facts
        views = () if sha256 in self._claimed else self._missing(photo.example)
        if not views:  # a copy of a photo that is being forwarded
            self._seen(photo.example, writer, advance)
            return
        self._claimed.add(sha256)
        self.counts.fetched += 1
        for name in views:
            yield (photo.example, name, name == views[-1]), partial(augment, photo.image, name, sha256)

    def _seen(self, example: Example, writer: "_Writer", advance: Callable[[], None]) -> None:
        self.counts.fetched += 1
        self.counts.reused += 1
        self._note(example, example.sha256, writer, advance)

    def _note(
        self, example: Example, result: str | RejectedPhoto, writer: "_Writer", advance: Callable[[], None]
    ) -> None:
        self.found[example.image] = result
        writer.photo(example, result)
        advance()
        if self.stop():
            raise StoppedError("stopped by SIGTERM", hint="run the same command again: it goes on from here")

    def _missing(self, example: Example) -> tuple[str, ...]:
        """The views of which some output's row is not in the store."""
        return tuple(
            name
            for name in self.wanted.views_of(example)
            if any(example.sha256 not in known for known in self._known[name])
        )


class _Writer:
    """Gathers rows and what is known of photos, and writes them in parts: rows and facts first, then the photos."""

    def __init__(self, wanted: FeatureRequest, store: FeatureStore) -> None:
        self._wanted = wanted
        self._store = store
        self._rows: dict[str, list[tuple[str, list[NDArray[np.float16]]]]] = {name: [] for name in wanted.spaces}
        self._photos: list[PhotoRecord] = []
        self.facts: dict[str, PhotoFacts] = {}
        self._bytes = 0
        self._written = time.monotonic()

    def row(self, name: str, sha256: str, outputs: Sequence[NDArray[np.float32]]) -> None:
        """Keep one view's rows, one for each output."""
        with np.errstate(over="ignore"):  # what does not fit is refused when it is written
            halves = [output.astype(np.float16) for output in outputs]
        self._rows[name].append((sha256, halves))
        self._bytes += sum(half.nbytes for half in halves)

    def photo(self, example: Example, result: str | RejectedPhoto) -> None:
        """A photo is done; write a part if it is time."""
        record = _record(example, result)
        if record is not None:
            self._photos.append(record)
        if self._bytes >= PART_BYTES or time.monotonic() - self._written > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write everything gathered."""
        for name, spaces in self._wanted.spaces.items():
            done = self._rows[name]
            for output, space in enumerate(spaces):
                if done:
                    self._store.add(space, [sha256 for sha256, _ in done], np.stack([rows[output] for _, rows in done]))
            self._rows[name] = []
        self._store.add_facts(self.facts)
        self._store.add_photos(self._photos)
        self._photos, self._bytes = [], 0
        self.facts = {}
        self._written = time.monotonic()


def _record(example: Example, result: str | RejectedPhoto) -> PhotoRecord | None:
    """What the index should remember; nothing of a photo without a stamp, or one that another attempt might get."""
    if not example.stamp:
        return None
    if isinstance(result, str):
        return PhotoRecord(example.image, example.stamp, result, DECODER_VERSION)
    if result.code not in CONTENT_CODES:
        return None
    return PhotoRecord(example.image, example.stamp, "", DECODER_VERSION, result.code, result.reason)
