from dataclasses import fields, replace

import pytest
from click.testing import CliRunner

from benchmarks.aws.cost import Assumptions, events, machines, main, page, predictions, storage, training
from benchmarks.helpers.processes import ROOT
from transferlite.cloud.prices import price_table

PRICES = price_table()
USUAL = Assumptions()
CPU, GPU = machines(PRICES, USUAL)


def test_the_documentation_quotes_the_commands_output() -> None:
    printed = CliRunner().invoke(main, catch_exceptions=False).output
    quoted = (ROOT / "docs" / "cost.md").read_text().split("<!-- printed by the command -->\n")[1]
    assert quoted.split("<!-- to here -->")[0] == printed


@pytest.mark.parametrize("name", [item.name for item in fields(Assumptions)])
def test_every_assumption_is_an_option_that_changes_the_output(name: str) -> None:
    other = getattr(USUAL, name) * 3
    printed = CliRunner().invoke(main, [f"--{name.replace('_', '-')}", str(other)], catch_exceptions=False).output
    assert printed == page(PRICES, replace(USUAL, **{name: other}))
    calculated, usual = (text.split("| assumption |")[0] for text in (printed, page(PRICES, USUAL)))
    assert calculated != usual


def test_training_costs_are_machine_seconds_and_requests() -> None:
    costs = training(PRICES, USUAL, 7900, 7900, CPU)
    seconds = 90 + 7900 / 79 + 7900 * 100 * 64e-6 + 24
    check = 90 / 3600 * (0.04048 + 8 * 0.004445)
    assert costs.machines_usd == pytest.approx(seconds / 3600 * (4 * 0.04048 + 16 * 0.004445) + check)
    assert costs.requests_usd == pytest.approx(7.9 * 0.0004 + 2 * 7.9 / 1000 * 0.005)
    assert costs.hours == pytest.approx((seconds + 90) / 3600)


def test_shards_take_less_time_and_cost_a_start_per_machine() -> None:
    shared = training(PRICES, USUAL, 100_000, 100_000, CPU)
    alone = training(PRICES, replace(USUAL, shards=1), 100_000, 100_000, CPU)
    assert shared.hours < alone.hours
    assert shared.machines_usd - alone.machines_usd == pytest.approx(5 * 90 / 3600 * CPU.usd_per_hour)


def test_storage_costs_are_photos_feature_rows_and_30_versions() -> None:
    assert storage(PRICES, USUAL, 1000) == pytest.approx((2 + 0.004 + 30 * 0.06) * 0.023)


def test_event_costs_are_requests_to_s3_and_sqs_and_events() -> None:
    assert events(PRICES) == pytest.approx(0.0004 + 0.005 + 1200 * 0.4e-6 + 1000 * 1e-6)


def test_an_always_on_machine_costs_its_whole_time() -> None:
    costs = dict(predictions(PRICES, USUAL))
    requests = 0.0004 + 0.005
    assert costs[f"{GPU.name}: always on, 1 photos/s"] == pytest.approx(1000 / 3600 * 0.526 + requests)
    assert costs[f"{GPU.name}: a bulk job, always busy"] == pytest.approx(1000 / 400 / 3600 * 0.526 + requests)
