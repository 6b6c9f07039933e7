"""``transferlite report``: the published page of a version, checked, and opened."""

from pathlib import Path

import click

REPORT = "report.html"


@click.command()
@click.argument("model_id", required=False)
@click.option("--registry", required=True, metavar="LOCATION", help="Where the models are.")
@click.option("--channel", default="production", show_default=True)
@click.option("--dest", type=click.Path(path_type=Path, dir_okay=False), help="Write it here.  [default: the cache]")
@click.option("--open", "in_browser", is_flag=True, help="Open it in the browser.")
def report(model_id: str | None, registry: str, channel: str, dest: Path | None, in_browser: bool) -> None:
    """Fetch the report of a version (or of the one that --channel names), and print where it is.

    The page is complete in itself: it needs no network, and can be sent to anyone.
    """
    path = fetch_report(registry, channel, model_id, dest)
    click.echo(str(path))
    if in_browser:
        import webbrowser

        if not webbrowser.open(path.resolve().as_uri()):
            click.echo("warning: no browser could be opened", err=True)


def fetch_report(location: str, channel: str, model_id: str | None, dest: Path | None) -> Path:
    """The report as a local file: ``dest``, or a copy in the cache, or the registry's own where that is a folder.

    Raises:
        NotFoundError: no such version, channel or registry, or a version from before there were reports.
        BundleError: it does not have the manifest's sha256.
    """
    from transferlite.errors import NotFoundError
    from transferlite.registry.local_bundle import check_files
    from transferlite.registry.open_registry import Registry, cache_folder
    from transferlite.storage.folder import FolderStore, translate_os_errors

    opened = Registry.open(location)
    store = opened.store
    if isinstance(store, FolderStore) and not store.root.is_dir():
        raise NotFoundError("there is no such registry", where=location, hint="mend the path or train a first model")
    manifest = opened.manifest(opened.resolve(channel, model_id))
    if REPORT not in manifest.files:
        raise NotFoundError(f"model {manifest.model_id} has no report", where=location, hint="train it again")
    key = f"models/{manifest.model_id}"
    if isinstance(store, FolderStore):
        folder = store.root / key
    else:
        folder = cache_folder(location) / manifest.model_id
        with translate_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        store.download(f"{key}/{REPORT}", folder / REPORT)
    check_files(folder, {REPORT: manifest.files[REPORT]})
    if dest is None:
        return folder / REPORT
    with translate_os_errors(dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
        dest.write_bytes((folder / REPORT).read_bytes())
    return dest
