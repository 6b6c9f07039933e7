"""Publish a backbone with its own ImageNet classifier as a version like any other: no label, no training."""

import platform
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.gate.choose_variant import choose_variant
from export.gate.compare_variants import left_out_variants
from export.gate.golden_pictures import draw_pictures, write_test_pictures
from export.gate.limits import ROUNDED_LIMITS
from export.gate.run_gate import Gate, GateOutcome
from export.gate.runtimes import LoadedSavedModel, keras_head
from export.gate.signatures import SIGNATURE_PHOTOS, as_png, signature_results
from export.keras_to_tflite.convert import convert
from export.keras_to_tflite.translate_model import translate_to_tflite
from export.native_logs import quiet_native_logs
from export.saved_model.write import trace_saved_model, write_saved_model
from export.tflite.metadata import ModelInfo
from export.tflite.quantise import Calibration, full_range_picture, merge_ranges, observe
from export.tflite.write_variants import write_variant
from train_job.backbones.build import weights_sha256
from train_job.backbones.catalog import BACKBONES
from train_job.backbones.weights_source import weights_source
from train_job.extraction.prepare_export import CALIBRATION_PHOTOS
from train_job.head.model import Classifier
from train_job.pipeline.export_variants import report_gate, variant_entry
from train_job.pipeline.run_json import software_versions
from train_job.pipeline.write_bundle import complete_bundle
from train_job.pretrained.imagenet_classifier import imagenet_classifier
from train_job.pretrained.unlabelled_photos import sample_photos
from train_job.progress import Reporter
from train_job.reporting.bill_of_materials import SBOM, bill_of_materials
from train_job.reporting.html_report import templates
from train_job.reporting.model_card import MODEL_CARD, escape_markdown
from transferlite.errors import NotFoundError
from transferlite.images.decoder import RGB, resize_to
from transferlite.images.input_spec import InputSpec
from transferlite.inference.variants import INT8, SAVED_MODEL
from transferlite.registry.channels import check_channel
from transferlite.registry.manifest import Manifest, Variant
from transferlite.registry.open_registry import Registry
from transferlite.registry.versions import new_model_id, utc_now

GATE_PHOTOS = 200
"""Photos of ``--images`` on which the gate compares the files, beside those that set int8's ranges."""


@dataclass(frozen=True)
class PublishOptions:
    """Options of ``transferlite publish``, which describes each under the same name."""

    pretrained: str
    registry: str
    weights: str
    images: str | None
    variants: tuple[str, ...]
    channel: str
    promote: str
    signing_key: str | None


@dataclass(frozen=True)
class PublishResult:
    """Result of a publication.

    Attributes:
        manifest: manifest of the published version.
        promoted: whether the channel points to it.
        kept: version that the channel keeps pointing to; empty if none.
    """

    manifest: Manifest
    promoted: bool
    kept: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The object that ``transferlite publish --json`` prints."""
        return {
            "model_id": self.manifest.model_id,
            "labels": len(self.manifest.labels),
            "variants": list(self.manifest.variants),
            "left_out": dict(self.manifest.left_out),
            "promoted": self.promoted,
        }


@dataclass(frozen=True)
class _Exported:
    """The exported files: manifest entries, reasons for missing variants, the gate's outcome, and the self-test."""

    info: ModelInfo
    variants: dict[str, Variant]
    left_out: dict[str, str]
    outcome: GateOutcome
    golden: str


def publish_pretrained(options: PublishOptions, report: Reporter) -> PublishResult:
    """Build the network, export it, run the gate, publish the version, and promote it if the channel is free.

    Raises:
        InputError: the options have to change, or the weights file does not fit.
        UnavailableError: ImageNet weights could not be downloaded.
        GateError: the exported model does not agree with the Keras model.
        TransferLiteError: the store refused a request or did not answer.
    """
    check_channel(options.channel)
    registry = Registry.open(options.registry, signing_key=options.signing_key)
    registry.store.check_writable()
    with quiet_native_logs():
        classifier = imagenet_classifier(BACKBONES[options.pretrained], options.weights)
    with tempfile.TemporaryDirectory(prefix="transferlite-") as name:
        folder = Path(name)
        exported = _export(options, classifier, folder, report)
        manifest = _manifest(options, classifier, exported)
        manifest = complete_bundle(
            folder, manifest, {MODEL_CARD: _model_card(manifest), SBOM: bill_of_materials(manifest)}
        )
        registry.publish(folder, manifest)
    report.line(f"published {manifest.model_id} to {options.registry}, {registry.signed}")
    return _promote(options, registry, manifest, report)


def _export(options: PublishOptions, classifier: Classifier, folder: Path, report: Reporter) -> _Exported:
    photos, variants, left_out = _photos(options, classifier.input, report), options.variants, dict[str, str]()
    calibration, gate_photos = photos[:CALIBRATION_PHOTOS], photos[CALIBRATION_PHOTOS:] or photos
    if options.images is None and INT8 in variants:
        variants = tuple(name for name in variants if name != INT8)
        left_out[INT8] = "it needs photos to set its ranges: pass --images"
    report.line(f"exporting: SavedModel, {', '.join(variants)}")
    info, head, backbone = (
        _model_info(options, classifier),
        classifier.head,
        translate_to_tflite(classifier.feature_model),
    )
    converted = convert(backbone, head, _calibration(backbone, calibration) if INT8 in variants else None, info)
    traced = trace_saved_model(classifier.feature_model, head, classifier.input)
    path = write_saved_model(traced, head.get_weights(), classifier.labels, folder)
    files = {SAVED_MODEL: path} | write_variant(converted, variants, folder)
    saved_model = LoadedSavedModel(path)
    gate = Gate(
        photos=lambda: _without_labels(gate_photos, report),
        labels=classifier.labels,
        limits=ROUNDED_LIMITS,
        max_photos=len(gate_photos),
        saved_model=saved_model,
    )
    outcome = gate.run(classifier.predict, files)
    encoded = [(as_png(photo), photo, None) for photo in gate_photos[:SIGNATURE_PHOTOS]]
    signatures = signature_results(saved_model, classifier.predict, keras_head(head), encoded, classifier.labels)
    left_out_variants(signatures)
    outcome = replace(outcome, results=(*outcome.results, *signatures))
    report_gate(outcome, report)
    for name, reason in left_out.items():
        report.warning(f"{name} is left out: {reason}")
    left_out |= outcome.left_out
    entries = {name: variant_entry(path, name, outcome) for name, path in files.items() if name not in left_out}
    golden = write_test_pictures(folder, entries, classifier.input)
    return _Exported(info, entries, left_out, outcome, golden)


def _calibration(backbone: bytes, photos: Sequence[RGB]) -> Calibration:
    """Measure the activations of a backbone's file for these photos and a picture with every value of a pixel."""
    height, width = photos[0].shape[:2]
    measured = list(observe(backbone, [*photos, full_range_picture(InputSpec(height, width))]))
    return Calibration(merge_ranges([ranges for ranges, _ in measured]), np.stack([row for _, row in measured]))


def _photos(options: PublishOptions, spec: InputSpec, report: Reporter) -> Sequence[RGB]:
    """The photos of ``--images``, or generated pictures, which are enough to compare files of float weights."""
    if options.images is None:
        report.line("no --images: the gate compares the files on generated pictures")
        return [resize_to(picture, spec) for picture in draw_pictures()]
    return sample_photos(options.images, spec, CALIBRATION_PHOTOS + GATE_PHOTOS, report)


def _without_labels(photos: Sequence[RGB], report: Reporter) -> Iterator[tuple[RGB, None]]:
    with report.progress("gate", len(photos)) as advance:
        for photo in photos:
            yield photo, None
            advance()


def _model_info(options: PublishOptions, classifier: Classifier) -> ModelInfo:
    now = utc_now()
    return ModelInfo(
        model_id=new_model_id(now),
        created_at=now.isoformat(),
        backbone=options.pretrained,
        labels=classifier.labels,
        input=classifier.input,
        release=software_versions().get("transferlite", ""),
    )


def _manifest(options: PublishOptions, classifier: Classifier, exported: _Exported) -> Manifest:
    return Manifest(
        model_id=exported.info.model_id,
        created_at=exported.info.created_at,
        labels=classifier.labels,
        input=classifier.input,
        backbone={
            "name": options.pretrained,
            "weights": options.weights,
            "weights_sha256": weights_sha256(classifier.model),
            "parameters": classifier.model.count_params(),
        }
        | weights_source(BACKBONES[options.pretrained], options.weights),
        training={"pretrained": True},
        dataset={},
        metrics={},
        variants=exported.variants,
        left_out=exported.left_out,
        software={"python": platform.python_version()} | software_versions(),
        golden=exported.golden,
        gate=exported.outcome.results,
        auto=choose_variant(exported.outcome.predictions, exported.variants),
    )


def _model_card(manifest: Manifest) -> str:
    environment = templates(autoescape=False)
    environment.filters["md"] = escape_markdown
    return environment.get_template("pretrained_card.md.j2").render(manifest=manifest)


def _promote(options: PublishOptions, registry: Registry, manifest: Manifest, report: Reporter) -> PublishResult:
    """Promote the version: always, never, or if the channel does not exist yet."""
    current = _current(registry, options.channel) if options.promote == "auto" else ""
    if options.promote == "never" or current:
        if current:
            report.warning(f"{options.channel} still points to {current}; replace it with --promote always")
        return PublishResult(manifest, promoted=False, kept=current)
    registry.promote(manifest.model_id, options.channel)
    report.line(f"{options.channel} -> {manifest.model_id}")
    return PublishResult(manifest, promoted=True)


def _current(registry: Registry, channel: str) -> str:
    try:
        return registry.channel(channel).model_id
    except NotFoundError:
        return ""
