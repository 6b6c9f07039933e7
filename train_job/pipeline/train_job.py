"""The main job: labels and photos in, a proven version published and, if it is as good as the last, promoted.

It reads top to bottom: data, features, head, evaluate, export, compare, report, publish. Everything that the user may
have got wrong and that can be seen without TensorFlow is seen before TensorFlow is imported.
"""

import gc
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.gate.other_python import runtime_of
from export.native_logs import quiet_native_logs
from train_job.backbones.catalog import BACKBONES, has_packaged_weights
from train_job.backbones.efficientnet_lite import imagenet_sha256
from train_job.data.labels.read_labels import read_data
from train_job.options import TrainOptions
from train_job.pipeline.run_record import BATCH_JOB, attempt, batch_job
from train_job.progress import Phases, Reporter
from train_job.sigterm import StopRequest, on_sigterm
from transferlite.errors import BundleError, NotFoundError
from transferlite.registry.channels import check_channel
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.locations import open_store


@dataclass(frozen=True)
class JobResult:
    """What a finished job has to say; ``refused`` holds the reasons why the channel stays as it was, if it does."""

    manifest: Manifest
    registry: str
    seconds: dict[str, float]
    promoted: bool
    refused: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The object that ``transferlite train --json`` prints."""
        variants = {name: value.accuracy for name, value in self.manifest.variants.items()}
        return {
            "model_id": self.manifest.model_id,
            "labels": list(self.manifest.labels),
            "metrics": {**self.manifest.metrics, "variants": variants, "left_out": dict(self.manifest.left_out)},
            "registry": self.registry,
            "promoted": self.promoted,
            "refused": list(self.refused),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


def train(options: TrainOptions, report: Reporter) -> JobResult:
    """Run the whole job. Nothing is published unless every step succeeds, and the channel changes last, if at all.

    Told to stop by SIGTERM, it keeps the features and the training's state: the same command goes on from there.

    Raises:
        StoppedError: it was told to stop.
        InputError: the options or the data have to change.
        GateError: the exported model does not agree with the trained one.
        TransferLiteError: the store refused or did not answer.
    """
    with on_sigterm() as stop:
        return _train(options, report, stop)


def _train(options: TrainOptions, report: Reporter, stop: StopRequest) -> JobResult:
    started = time.perf_counter()
    phases = Phases()
    with phases("data"):
        if options.legacy_python is not None:
            report.line(f"the files will be proven on {runtime_of(options.legacy_python)} too")
        registry = _open_registry(options, report)
        dataset = read_data(options, report)
        dataset.check_share(options.fail_over)
    if attempt() > 1:
        if done := _done_before(registry, options):
            report.line(f"an earlier attempt of this job promoted {done.model_id}: nothing is left to do")
            return JobResult(done, options.registry, phases.seconds, promoted=True)
        report.line(f"attempt {attempt()}: going on from what is kept")
    report.line("loading TensorFlow")
    with quiet_native_logs(), ThreadPoolExecutor(1) as other_core:
        if has_packaged_weights(BACKBONES[options.backbone], options.weights):
            other_core.submit(imagenet_sha256)  # which keeps them for the base; what is wrong is said there
        from train_job.pipeline.export_variants import export_variants
        from train_job.pipeline.prepare_data import JobContext
        from train_job.pipeline.promotion import compare_with_champion, refusals
        from train_job.pipeline.train_classifier import forget_checkpoints, train_classifier
        from train_job.pipeline.write_records import write_records
    gc.freeze()  # what was imported stays: no collection has to look at a million objects again

    job = JobContext(options, registry, phases, report, stop)
    learned = train_classifier(job, dataset)
    stop.check()
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
        with phases("export"):
            exported = export_variants(job, learned, Path(folder))
        stop.check()
        with phases("compare"):
            comparison = compare_with_champion(job, learned, exported)
            refused = refusals(job, learned, exported, comparison) if options.promote == "auto" else ()
        promoted = options.promote != "never" and not refused
        with phases("report"):
            manifest = write_records(job, learned, exported, comparison, promoted)
        stop.check()
        with phases("publish"):
            registry.publish(Path(folder), manifest)
            report.line(f"published {manifest.model_id} to {options.registry}, {registry.signed}")
            if promoted:
                _promote(job, manifest)
            forget_checkpoints(job)
    for reason in refused:
        report.warning(f"{options.channel} stays as it is: {reason}")
    phases.seconds["total"] = time.perf_counter() - started
    return JobResult(manifest, options.registry, phases.seconds, promoted, refused)


def _open_registry(options: TrainOptions, report: Reporter) -> Registry:
    """The registry, to which all that will be written can be written."""
    registry = Registry.open(options.registry, signing_key=options.signing_key)
    registry.store.check_writable()
    if options.features is not None:
        open_store(options.features).check_writable()
    check_channel(options.channel)
    if options.promote != "never" and registry.loses_history(options.channel):
        report.warning(f"what {options.channel} names was not signed with this key; its history will end here")
    return registry


def _done_before(registry: Registry, options: TrainOptions) -> Manifest | None:
    """The channel's version if this AWS Batch job made it: the attempt before was ended after its last step."""
    job = batch_job()
    with suppress(NotFoundError, BundleError):
        serving = registry.manifest(registry.resolve(options.channel))
        return serving if job and serving.training.get(BATCH_JOB) == job else None
    return None


def _promote(job: Any, manifest: Manifest) -> None:
    pointer = job.registry.promote(manifest.model_id, job.options.channel)
    was = f" (was {pointer.previous[0]})" if pointer.previous else ""
    job.report.line(f"{job.options.channel} -> {pointer.model_id}{was}")
