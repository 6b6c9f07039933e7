"""``transferlite report``: fetch a version's training report, verify it and open it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from transferlite.cli.options import channel_option, refuse_channel_beside, registry_option

if TYPE_CHECKING:
    from transferlite.registry.manifest import Manifest

REPORT = "report.html"


@click.command()
@click.argument("model_id", required=False)
@registry_option
@channel_option
@click.option("--dest", type=click.Path(path_type=Path, dir_okay=False), help="File to write.  [default: the cache]")
@click.option("--open", "in_browser", is_flag=True, help="Open the report in the browser.")
def report(model_id: str | None, registry: str, channel: str, dest: Path | None, in_browser: bool) -> None:
    """Fetch the report of a version and print its path. Without MODEL_ID, the version that --channel points to.

    The report is one self-contained HTML file: it needs no network and can be sent to anyone.
    """
    refuse_channel_beside(model_id, "MODEL_ID")
    path = fetch_report(registry, channel, model_id, dest)
    click.echo(str(path))
    if in_browser:
        open_in_browser(path)


def open_in_browser(path: Path) -> None:
    """Open a local file in the browser; warn if there is none."""
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        click.echo("warning: no browser could be opened", err=True)


def fetch_report(location: str, channel: str, model_id: str | None, dest: Path | None) -> Path:
    """Return the report as a local file: ``dest``, a copy in the cache, or the file in a local registry.

    Raises:
        NotFoundError: no such version or channel, or the version has no report.
        InputError: no such registry.
        BundleError: the report does not have the manifest's sha256.
    """
    from transferlite.cli.models import open_registry
    from transferlite.errors import NotFoundError
    from transferlite.registry.model_cache import cache_in_use
    from transferlite.registry.open_registry import cache_folder
    from transferlite.storage.folder import FolderStore

    registry = open_registry(location)
    manifest = registry.manifest(registry.resolve(channel, model_id))
    if REPORT not in manifest.files:
        hint = "read its MODEL_CARD.md" if manifest.pretrained else "train it again"
        raise NotFoundError(f"model {manifest.model_id} has no report", where=location, hint=hint)
    key = f"models/{manifest.model_id}"
    if isinstance(registry.store, FolderStore):
        return _checked_copy(registry.store.root / key, manifest, dest)
    with cache_in_use(cache_folder(location), manifest.model_id) as folder:
        folder.mkdir(exist_ok=True)
        registry.store.download(f"{key}/{REPORT}", folder / REPORT)
        return _checked_copy(folder, manifest, dest)


def _checked_copy(folder: Path, manifest: "Manifest", dest: Path | None) -> Path:
    """Check the report in a version's folder, and copy it to ``dest`` if given; return the path of the copy."""
    from transferlite.registry.local_bundle import check_files
    from transferlite.storage.os_errors import translate_os_errors

    check_files(folder, {REPORT: manifest.files[REPORT]})
    if dest is None:
        return folder / REPORT
    with translate_os_errors(dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
        dest.write_bytes((folder / REPORT).read_bytes())
    return dest
