"""The training job, from labels and photos to a published model version.

The steps, in order: read the labels, extract features, train and evaluate the head, export the variants, compare the
new version with the one in the channel, write the report, publish, promote. Mistakes in options and labels are reported
before TensorFlow is imported, which takes seconds.
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
from train_job.backbones.efficientnet_lite import EFFICIENTNET_LITE, imagenet_sha256
from train_job.data.labels.read_labels import read_job_dataset
from train_job.options import TrainOptions
from train_job.pipeline.run_json import BATCH_JOB, batch_attempt, batch_job
from train_job.progress import PhaseTimer, Reporter
from train_job.sigterm import StopRequest, stop_on_sigterm
from transferlite.errors import BundleError, NotFoundError
from transferlite.registry.channels import check_channel
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.locations import open_store


@dataclass(frozen=True)
class JobResult:
    """Result of a finished job.

    Attributes:
        manifest: manifest of the published version.
        registry: location of the registry it was published to.
        seconds: wall seconds by phase, and their ``total``.
        promoted: whether the channel points to the version.
        refused: reasons why the channel was left unchanged; empty unless the promotion check failed.
    """

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
    """Run the training job. Nothing is published unless every step succeeds; the channel is changed last, if at all.

    After SIGTERM the job keeps the features and the state of the head's training, so that the same command resumes.

    Raises:
        StoppedError: SIGTERM was received.
        InputError: the options or the data have to change.
        GateError: the exported model does not agree with the trained one.
        TransferLiteError: the store refused a request or did not answer.
    """
    with stop_on_sigterm() as stop:
        return _train(options, report, stop)


def _train(options: TrainOptions, report: Reporter, stop: StopRequest) -> JobResult:
    started = time.perf_counter()
    phases = PhaseTimer()
    with phases("data"):
        if options.legacy_python is not None:
            report.line(f"the gate also runs the variants on {runtime_of(options.legacy_python)}")
        registry = _open_registry(options, report)
        dataset = read_job_dataset(options, report)
        dataset.check_rejected_share(options.fail_over)
    if batch_attempt() > 1:
        if finished := _promoted_by_earlier_attempt(registry, options):
            report.line(f"an earlier attempt of this job promoted {finished.model_id}: nothing left to do")
            return JobResult(finished, options.registry, phases.seconds, promoted=True)
        report.line(f"attempt {batch_attempt()}: resuming from the saved features and state")
    report.line("loading TensorFlow")
    with quiet_native_logs(), ThreadPoolExecutor(1) as background:
        if has_packaged_weights(BACKBONES[options.backbone], options.weights):
            # Read the packaged weights while TensorFlow is imported. The result is cached; an error is raised again
            # where the backbone is built.
            background.submit(imagenet_sha256, EFFICIENTNET_LITE[options.backbone])
        from train_job.pipeline.export_variants import export_variants
        from train_job.pipeline.prepare_data import JobContext
        from train_job.pipeline.promotion import compare_with_champion, current_version, promote, refusals
        from train_job.pipeline.train_classifier import remove_checkpoints, train_classifier
        from train_job.pipeline.write_bundle import write_bundle
    gc.freeze()  # imported modules live as long as the process: garbage collection skips their million objects

    job = JobContext(options, registry, phases, report, stop)
    trained = train_classifier(job, dataset)
    stop.check()
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
        with phases("export"):
            exported = export_variants(job, trained, trained.export.result(), Path(folder))
        stop.check()
        with phases("compare"):
            compared = current_version(job)
            comparison = compare_with_champion(job, trained, exported)
            refused = refusals(job, trained, exported, comparison) if options.promote == "auto" else ()
        promoted = options.promote != "never" and not refused
        with phases("report"):
            manifest = write_bundle(job, trained, exported, comparison, promoted, refused)
        stop.check()
        with phases("publish"):
            registry.publish(Path(folder), manifest)
            report.line(f"published {manifest.model_id} to {options.registry}, {registry.signed}")
            if promoted:
                refused = promote(job, trained, exported, compared)
                promoted = not refused
            remove_checkpoints(job)
    for reason in refused:
        report.warning(f"{options.channel} is unchanged: {reason}")
    phases.seconds["total"] = time.perf_counter() - started
    return JobResult(manifest, options.registry, phases.seconds, promoted, refused)


def _open_registry(options: TrainOptions, report: Reporter) -> Registry:
    """Open the registry; check that the job may write to it and to the feature store, and that the channel is valid."""
    registry = Registry.open(options.registry, signing_key=options.signing_key)
    registry.store.check_writable()
    if options.features is not None:
        open_store(options.features).check_writable()
    check_channel(options.channel)
    if options.promote != "never" and registry.loses_history(options.channel):
        report.warning(f"{options.channel} is not signed with this key; promoting ends its history")
    return registry


def _promoted_by_earlier_attempt(registry: Registry, options: TrainOptions) -> Manifest | None:
    """The channel's version if this AWS Batch job published it: an earlier attempt was killed after its last step."""
    job_id = batch_job()
    with suppress(NotFoundError, BundleError):
        current = registry.manifest(registry.resolve(options.channel))
        return current if job_id and current.training.get(BATCH_JOB) == job_id else None
    return None
