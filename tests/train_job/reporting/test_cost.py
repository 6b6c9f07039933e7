import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from train_job.reporting import cost
from train_job.reporting.cost import CostReceipt, Machine, PredictionPrice, cost_receipt, this_machine
from transferlite import environment
from transferlite.cloud.prices import price_table

HERE = Machine("this machine, 2 cores, x86_64")


def line(receipt: CostReceipt, name: str, architecture: str = "") -> cost.RunPrice:
    return next(run for run in receipt.training if run.machine == name and architecture in run.what)


def price(receipt: CostReceipt, variant: str, memory: int, architecture: str = "x86_64") -> PredictionPrice:
    (prediction,) = (
        prediction
        for prediction in receipt.predictions
        if (prediction.variant, prediction.memory_mb, prediction.architecture) == (variant, memory, architecture)
    )
    return prediction


def test_the_price_table_has_a_date_a_region_and_a_source() -> None:
    table = price_table()
    assert table["date"].count("-") == 2
    assert table["region"] == "us-east-1"
    assert "aws.amazon.com/ec2/pricing" in table["source"]
    assert all(0 < price["usd"] < 5 for price in table["ec2_hour"].values())


def test_an_hour_costs_the_hourly_price_and_the_total_is_not_counted_twice() -> None:
    receipt = cost_receipt({"data": 1000.0, "head": 2500.0, "total": 3600.0}, 200, machine=HERE)
    assert receipt.seconds == 3600
    assert line(receipt, "g4dn.xlarge").usd == pytest.approx(0.526)
    assert line(receipt, "Fargate", "x86_64").usd == pytest.approx(4 * 0.04048 + 16 * 0.004445)
    assert [run.usd for run in receipt.training] == sorted(run.usd for run in receipt.training)
    assert not any(run.measured for run in receipt.training)
    assert cost_receipt({"data": 1000.0, "head": 2500.0}, 200, machine=HERE).seconds == 3500


def test_a_run_of_seconds_is_billed_as_a_minute() -> None:
    assert line(cost_receipt({"total": 3.0}, 1, machine=HERE), "g5.xlarge").usd == pytest.approx(1.006 / 60)


def test_a_prediction_uses_its_share_of_a_vcpu_and_at_most_one() -> None:
    receipt = cost_receipt({"total": 60.0}, 1, {"float32": 7.0, "saved_model": None}, HERE)
    assert {prediction.variant for prediction in receipt.predictions} == {"float32"}
    assert price(receipt, "float32", 512).milliseconds == pytest.approx(7 * 1769 / 512)
    assert price(receipt, "float32", 1769).milliseconds == price(receipt, "float32", 10240).milliseconds == 7
    assert price(receipt, "float32", 10240).usd_per_1000 > price(receipt, "float32", 1769).usd_per_1000


def test_1000_predictions_cost_their_gib_seconds_in_whole_milliseconds_and_their_requests() -> None:
    receipt = cost_receipt({"total": 60.0}, 1, {"int8": 3.2}, HERE)
    expected = 1000 * (0.004 * 1769 / 1024 * 0.0000166667 + 0.2e-6)
    assert price(receipt, "int8", 1769).usd_per_1000 == pytest.approx(expected)
    assert price(receipt, "int8", 1769, "arm64").usd_per_1000 < expected
    assert json.loads(json.dumps(receipt.to_dict()))["predictions"][0]["variant"] == "int8"


def test_the_machine_is_the_one_named_in_the_environment() -> None:
    machine = this_machine({environment.MACHINE: "g6.xlarge", "AWS_BATCH_JOB_ID": "1"})
    assert machine.name == "g6.xlarge"
    receipt = cost_receipt({"total": 60.0}, 1, machine=machine)
    assert [run.machine for run in receipt.training if run.measured] == ["g6.xlarge"]


def test_without_a_name_the_machine_is_described_by_its_cores() -> None:
    assert this_machine({}).name.startswith("this machine, ")
    assert "core" in this_machine({}).name
    assert "AWS Batch" in this_machine({"AWS_BATCH_JOB_ID": "1"}).name


@pytest.fixture
def ecs(request: pytest.FixtureRequest) -> Iterator[str]:
    """A task metadata endpoint on loopback that returns the parameter."""

    class Endpoint(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = request.param if self.path == "/v4/abc/task" else b"{}"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.HTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v4/abc"
    server.shutdown()
    server.server_close()
    thread.join()


FARGATE = json.dumps({"LaunchType": "FARGATE", "Limits": {"CPU": 2.0, "Memory": 8192}}).encode()


@pytest.mark.parametrize("ecs", [FARGATE], indirect=True)
def test_a_fargate_task_is_billed_for_its_own_size(ecs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    machine = this_machine({"ECS_CONTAINER_METADATA_URI_V4": ecs})
    assert machine.name == "a Fargate task with 2 vCPU and 8 GiB"
    receipt = cost_receipt({"total": 3600.0}, 1, machine=machine)
    (measured,) = (run for run in receipt.training if run.measured)
    assert measured.usd == pytest.approx(2 * 0.03238 + 8 * 0.00356)


@pytest.mark.parametrize("ecs", [b"not json", b"[]", b'{"LaunchType": "FARGATE", "Limits": null}'], indirect=True)
def test_unexpected_metadata_is_ignored(ecs: str) -> None:
    assert "core" in this_machine({"ECS_CONTAINER_METADATA_URI_V4": ecs}).name


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9/v4", "file:///etc/passwd", "http://[bad"])
def test_an_unreachable_metadata_endpoint_is_ignored(uri: str) -> None:
    assert "core" in this_machine({"ECS_CONTAINER_METADATA_URI_V4": uri}).name
