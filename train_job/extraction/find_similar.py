"""Find similar photos: the ``transferlite similar`` command."""

from collections.abc import Sequence

from export.native_logs import quiet_native_logs
from train_job.data.example import Example
from train_job.extraction.similar_photos import SimilarPhoto, list_photos, similar_photos
from train_job.options import TrainOptions
from train_job.progress import Reporter
from train_job.sigterm import stop_on_sigterm
from transferlite.errors import InputError


def find_similar(
    options: TrainOptions, photos: Sequence[str], count: int, report: Reporter
) -> dict[str, list[SimilarPhoto]]:
    """Find the photos below ``options.images`` that look most like each of ``photos``, the most similar first.

    Rows that ``options.features`` lacks are computed and added.

    Raises:
        NotFoundError: there are no photos to search.
        InputError: a photo cannot be used.
        StoppedError: the job received SIGTERM.
    """
    searched = list_photos(options.images)
    with stop_on_sigterm() as stop:
        with quiet_native_logs():
            from train_job.extraction.frozen_backbone import FrozenBackbone, extract_missing
            from train_job.store.feature_store import FeatureStore

        store = FeatureStore.open(options.feature_store, report.warning)
        backbone = FrozenBackbone(options)
        extracted = extract_missing(
            backbone, [*searched, *(Example(photo, "") for photo in photos)], store, report, stop
        )
    (space,) = backbone.feature_request.spaces["plain"]
    usable = {example.image: example for example in extracted.examples}
    reasons = {photo.uri: photo.reason for photo in extracted.rejected}
    for photo in photos:
        if photo not in usable:
            raise InputError(reasons[photo], where=photo, hint="give another photo")
    if left_out := [photo.image for photo in searched if photo.image not in usable]:
        report.warning(f"{len(left_out)} photos cannot be used, such as {left_out[0]}: {reasons[left_out[0]]}")
    among = [usable[photo.image] for photo in searched if photo.image in usable]
    return {photo: similar_photos(usable[photo], among, store, space, count) for photo in photos}
