from dataclasses import fields, replace

import pytest
from click.testing import CliRunner

from benchmarks.cost import Assumptions, events, machines, main, page, predictions, storage, training
from benchmarks.sides.processes import ROOT
from transferlite.cloud.prices import price_table

PRICES = price_table()
USUAL = Assumptions()
CPU, GPU = machines(PRICES, USUAL)


def test_the_documentation_quotes_what_the_command_prints() -> None:
    printed = CliRunner().invoke(main, catch_exceptions=False).output
    quoted = (ROOT / "docs" / "cost.md").read_text().split("<!-- printed by the command -->\n")[1]
    assert quoted.split("<!-- to here -->")[0] == printed


@pytest.mark.parametrize("name", [one.name for one in fields(Assumptions)])
def test_every_assumption_is_an_option_that_changes_what_is_printed(name: str) -> None:
    other = getattr(USUAL, name) * 3
    printed = CliRunner().invoke(main, [f"--{name.replace('_', '-')}", str(other)], catch_exceptions=False).output
    assert printed == page(PRICES, replace(USUAL, **{name: other}))
    calculated, usual = (text.split("| assumption |")[0] for text in (printed, page(PRICES, USUAL)))
    assert calculated != usual


def test_a_training_costs_its_seconds_on_one_machine_and_a_get_of_each_new_photo() -> None:
    found = training(PRICES, USUAL, 7900, 7900, CPU)
    seconds = 90 + 7900 / 79 + 7900 * 100 * 64e-6 + 24
    check = 90 / 3600 * (0.04048 + 8 * 0.004445)
    assert found.machines_usd == pytest.approx(seconds / 3600 * (4 * 0.04048 + 16 * 0.004445) + check)
    assert found.requests_usd == pytest.approx(7.9 * 0.0004 + 2 * 7.9 / 1000 * 0.005)
    assert found.hours == pytest.approx((seconds + 90) / 3600)


def test_many_new_photos_are_shared_out_which_takes_less_time_and_a_start_of_each_machine() -> None:
    shared = training(PRICES, USUAL, 100_000, 100_000, CPU)
    alone = training(PRICES, replace(USUAL, shards=1), 100_000, 100_000, CPU)
    assert shared.hours < alone.hours
    assert shared.machines_usd - alone.machines_usd == pytest.approx(5 * 90 / 3600 * CPU.usd_per_hour)


def test_storage_is_photos_rows_and_thirty_versions() -> None:
    assert storage(PRICES, USUAL, 1000) == pytest.approx((2 + 0.004 + 30 * 0.06) * 0.023)


def test_1000_photos_on_their_way_are_requests_to_s3_and_sqs() -> None:
    assert events(PRICES) == pytest.approx(0.0004 + 0.005 + 1200 * 0.4e-6)


def test_a_machine_that_waits_for_photos_is_paid_for_all_the_time() -> None:
    found = dict(predictions(PRICES, USUAL))
    requests = 0.0004 + 0.005
    assert found[f"{GPU.name}: always on, 1 photos/s"] == pytest.approx(1000 / 3600 * 0.526 + requests)
    assert found[f"{GPU.name}: a bulk job, always busy"] == pytest.approx(1000 / 400 / 3600 * 0.526 + requests)
