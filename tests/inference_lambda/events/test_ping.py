from typing import Any

import pytest

from inference_lambda import handler
from inference_lambda.events.parse import DirectInvocation, DriftCheck, parse_event
from inference_lambda.events.ping import Ping
from inference_lambda.handler import lambda_handler
from tests.inference_lambda.golden import golden
from transferlite.errors import InputError

PINGS: list[tuple[Any, str]] = [
    ({"source": "serverless-plugin-warmup"}, "serverless-plugin-warmup"),
    ({"Event": {"source": "x"}, "source": "serverless-plugin-warmup", "concurrency": 3}, "serverless-plugin-warmup"),
    ({"warmup": True}, "warmup"),
    ({"warmer": True, "concurrency": 3}, "warmer"),
    (golden("eventbridge_schedule"), "aws.events"),
    (golden("eventbridge_scheduler"), "aws.scheduler"),
]


@pytest.mark.parametrize(("event", "source"), PINGS, ids=[source for _, source in PINGS])
def test_a_ping_is_acknowledged_without_a_service(
    event: dict[str, Any], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRANSFERLITE_REGISTRY", raising=False)
    handler._service.cache_clear()
    assert lambda_handler(event, None) == {"acknowledged": source}
    assert handler._service.cache_info().currsize == 0


@pytest.mark.parametrize(
    "event",
    [
        {"warmup": False},
        {"warmup": "true"},
        {"warmer": 1},
        {"source": "warmup"},
        {"source": ["aws.events"], "detail-type": "Scheduled Event"},
        {"source": "my.app", "detail-type": "Scheduled Event"},
        {"source": "aws.events", "detail-type": "Photo Labelled", "detail": {}},
        {"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification", "detail": {}},
    ],
)
def test_other_events_are_no_pings(event: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="unknown event"):
        parse_event(event)


def test_an_event_with_work_is_no_ping() -> None:
    assert parse_event({"warmup": True, "image": ""}) == DirectInvocation(image=b"")
    assert parse_event({"warmup": True, "drift": {}}) == DriftCheck("7d")
    assert parse_event({"warmup": True}) == Ping("warmup")
