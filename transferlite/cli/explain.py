"""``transferlite explain``: draw a heat map of the evidence for a label over one photo."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transferlite.cli.options import json_option
from transferlite.cli.predict import model_options, open_predictor
from transferlite.errors import InputError

if TYPE_CHECKING:
    from transferlite.predict.explain import HeatMap


@click.command()
@click.argument("photo", metavar="PHOTO")
@model_options
@click.option("--label", help="Label to explain.  [default: the most probable]")
@click.option("--out", required=True, metavar="LOCATION", help="PNG file to write.")
@json_option
def explain(photo: str, label: str | None, out: str, as_json: bool, **model: Any) -> None:
    """Show which parts of a photo support its label, by covering one part after the other.

    PHOTO is a local file or an s3:// object. The PNG shows the upright photo with a heat map: hot where covering lowers
    the label's probability most.
    """
    from transferlite.cli.print_predictions import to_json_line
    from transferlite.images.decoder import decode
    from transferlite.images.input_spec import READ_BYTES
    from transferlite.predict.explain import explain as compute_heat_map
    from transferlite.predict.explain import overlay
    from transferlite.storage.locations import read_uri, write_uri

    if _is_same_file(photo, out):
        raise InputError("--out would overwrite the photo", where=out, hint="name another file")
    predictor = open_predictor(**model)
    data = read_uri(photo, READ_BYTES)
    image = decode(data, where=photo)
    heat_map = compute_heat_map(predictor, data, label)
    file = io.BytesIO()
    overlay(image, heat_map).save(file, "PNG")
    write_uri(out, file.getvalue())
    height, width = image.shape[:2]
    if as_json:
        click.echo(to_json_line({"image": photo, **_to_dict(heat_map, width, height), "out": out}))
        return
    click.echo(f"{photo}: {heat_map.label} {heat_map.score:.3f}")
    click.echo(_summary(heat_map, width, height, bool(predictor.resolution)))
    click.echo(f"wrote {out}")


def _is_same_file(photo: str, out: str) -> bool:
    if "://" in photo or "://" in out:
        return photo == out
    return Path(photo).expanduser().resolve() == Path(out).expanduser().resolve()


def _to_dict(heat_map: "HeatMap", width: int, height: int) -> dict[str, Any]:
    return {
        "model_id": heat_map.model_id,
        "label": heat_map.label,
        "score": heat_map.score,
        "width": width,
        "height": height,
        "part": _part_in_pixels(heat_map, width, height),
        "covered_score": heat_map.covered_score,
    }


def _part_in_pixels(heat_map: "HeatMap", width: int, height: int) -> dict[str, int] | None:
    if heat_map.part is None:
        return None
    sides = zip(("left", "top", "right", "bottom"), heat_map.part, (width, height) * 2, strict=True)
    return {name: round(share * length) for name, share, length in sides}


def _summary(heat_map: "HeatMap", width: int, height: int, is_quantised: bool) -> str:
    part = _part_in_pixels(heat_map, width, height)
    if part is None:
        advice = " by a full step of this variant; float32 has finer steps" if is_quantised else ""
        return f"no single part matters: covering any window does not lower the probability{advice}"
    box = "{left},{top} to {right},{bottom}".format(**part)
    return f"strongest part: {box} of {width}x{height} pixels; probability {heat_map.covered_score:.3f} with it covered"
