import webbrowser
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUCKET
from tests.transferlite.bundles import manifest_of, write_bundle
from train_job.reporting.html_report import REPORT_HTML
from transferlite.cli.main import run
from transferlite.registry.local_bundle import describe_files
from transferlite.registry.manifest import MANIFEST
from transferlite.registry.open_registry import Registry
from transferlite.storage.s3_boto3 import s3_client

OLD, NEW = "20260101-000000-00000001", "20260102-000000-00000002"
PAGE = "<!doctype html><title>{}</title>"


@pytest.fixture(params=["folder", "s3"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A registry with two versions that have a report; production points to the newer."""
    location = str(tmp_path / "models")
    if request.param == "s3":
        request.getfixturevalue("bucket")
        location = f"s3://{BUCKET}/models"
    opened = Registry.open(location)
    for model_id in (OLD, NEW):
        folder = tmp_path / "bundles" / model_id
        write_bundle(folder, model_id)
        (folder / MANIFEST).unlink()
        (folder / REPORT_HTML).write_text(PAGE.format(model_id))
        opened.publish(folder, manifest_of(model_id, files=describe_files(folder)))
    opened.promote(NEW, "production")
    return location


def test_the_channels_report_is_fetched_and_its_path_printed(registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "--registry", registry]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.name == "report.html"
    assert path.read_text() == PAGE.format(NEW)


def test_another_versions_report_is_written_to_dest_and_opened(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    dest = tmp_path / "new folder" / "a report.html"
    assert run(["report", OLD, "--registry", registry, "--dest", str(dest), "--open"]) == 0
    assert dest.read_text() == PAGE.format(OLD)
    assert opened == [dest.as_uri()]
    out, err = capsys.readouterr()
    assert out == f"{dest}\n"
    assert err == "warning: no browser could be opened\n"


def test_a_changed_report_is_refused(registry: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Registry.open(registry).store.put(f"models/{NEW}/{REPORT_HTML}", b"<script>")
    dest = tmp_path / "kept.html"
    assert run(["report", "--registry", registry, "--dest", str(dest)]) == 1
    assert "does not have the manifest's sha256" in capsys.readouterr().err
    assert not dest.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["20990101-000000-00000000"], "there is no model 20990101"),
        (["--channel", "staging"], "there is no channel 'staging'"),
        (["../x"], "is not a model id"),
    ],
)
def test_a_missing_version_or_channel_is_reported(
    words: list[str], message: str, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", *words, "--registry", registry]) == 2
    assert message in capsys.readouterr().err


def test_a_version_without_a_report_and_a_missing_registry_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_bundle(tmp_path / "bundle", OLD)
    opened = Registry.open(str(tmp_path / "models"))
    opened.publish(tmp_path / "bundle", manifest)
    assert run(["report", OLD, "--registry", str(tmp_path / "models")]) == 2
    assert f"model {OLD} has no report; train it again" in capsys.readouterr().err
    assert run(["report", "--registry", str(tmp_path / "nowhere")]) == 2
    assert "there is no such registry" in capsys.readouterr().err


def test_the_report_in_s3_has_the_content_type_of_a_page(bucket: Any, tmp_path: Path) -> None:
    (tmp_path / REPORT_HTML).write_text(PAGE)
    Registry.open(f"s3://{BUCKET}/models").store.upload(REPORT_HTML, tmp_path / REPORT_HTML)
    assert (
        s3_client().head_object(Bucket=BUCKET, Key=f"models/{REPORT_HTML}")["ContentType"] == "text/html; charset=utf-8"
    )
