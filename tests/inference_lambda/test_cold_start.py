from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import snapshot_restore_py

from inference_lambda import cold_start
from inference_lambda.service import Service
from inference_lambda.settings import Settings
from transferlite.storage.s3_boto3 import s3_client


@pytest.mark.usefixtures("bucket")
def test_a_snapshot_holds_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks: list[Any] = []
    monkeypatch.setattr(snapshot_restore_py, "register_before_snapshot", hooks.append)
    service = Service(Settings(str(tmp_path), None))
    closed: list[str] = []
    client = s3_client()
    monkeypatch.setattr(client._endpoint.http_session, "close", lambda: closed.append("pool"))
    cold_start._register_snapshot_hook(lambda: service)
    hooks[0]()
    assert closed == ["pool"]
    assert s3_client() is not client


def test_a_failed_initialisation_is_logged_and_does_not_raise(caplog: pytest.LogCaptureFixture) -> None:
    def get() -> None:
        raise OSError("no space left")

    service = cast(Service, SimpleNamespace(model=SimpleNamespace(get=get)))
    cold_start.load_before_first_event(lambda: service)
    assert '{"event": "not-ready", "reason": "no space left"}' in caplog.text
