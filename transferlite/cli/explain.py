"""``transferlite explain``: one photo with what speaks for its label laid over it."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transferlite.cli.predict import model_options, open_predictor
from transferlite.errors import InputError

if TYPE_CHECKING:
    from transferlite.predict.predictor import Predictor


@click.command()
@click.argument("image", metavar="IMAGE")
@model_options
@click.option("--label", help="Explain this label.  [default: the model's answer]")
@click.option("--out", required=True, metavar="LOCATION", help="The PNG to write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(image: str, label: str | None, out: str, as_json: bool, **model: Any) -> None:
    """Cover one photo part by part and show where the model's label comes from.

    IMAGE is a local file or an s3:// object. The PNG is the upright photo, hot where covering it costs the label most.
    """
    from transferlite.images.decoder import decode
    from transferlite.images.input_spec import READ_BYTES
    from transferlite.predict.explain import explain as explained
    from transferlite.predict.explain import overlay
    from transferlite.storage.locations import read_uri, write_uri

    if _same(image, out):
        raise InputError("--out would replace the photo", where=out, hint="name another file")
    predictor = open_predictor(**model)
    data = read_uri(image, READ_BYTES)
    picture = decode(data, where=image)
    found = explained(predictor, data, label)
    file = io.BytesIO()
    overlay(picture, found).save(file, "PNG")
    write_uri(out, file.getvalue())
    height, width = picture.shape[:2]
    part = _pixels(found.part, width, height) if found.part else None
    if as_json:
        answer = {"image": image, "model_id": found.model_id, "label": found.label, "score": found.score}
        size = {"width": width, "height": height}
        where = {"part": part, "covered_score": found.covered, "out": out}
        click.echo(json.dumps(answer | size | where, ensure_ascii=False))
        return
    click.echo(f"{image}: {found.label} {found.score:.3f}")
    if part is None:
        click.echo(
            "no part matters by itself: no window, once covered, makes the label less likely" + _advice(predictor)
        )
    else:
        box = "{left},{top} to {right},{bottom}".format(**part)
        click.echo(f"most of it from {box} of {width}x{height} pixels: {found.covered:.3f} with that covered")
    click.echo(f"wrote {out}")


def _advice(predictor: "Predictor") -> str:
    return " by a step of this variant; float32 sees finer ones" if predictor.resolution else ""


def _same(image: str, out: str) -> bool:
    if "://" in image or "://" in out:
        return image == out
    return Path(image).expanduser().resolve() == Path(out).expanduser().resolve()


def _pixels(part: tuple[float, float, float, float], width: int, height: int) -> dict[str, int]:
    sides = zip(("left", "top", "right", "bottom"), part, (width, height) * 2, strict=True)
    return {name: round(share * length) for name, share, length in sides}
