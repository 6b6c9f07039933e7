"""The simulation of distributed work agrees with arithmetic, and with what must hold where chance decides."""

import itertools

import pytest
from click.testing import CliRunner

from benchmarks.aws.cost import Assumptions
from benchmarks.aws.scale import WAYS, ArrayJob, main, simulate_array, simulate_predictions
from tests.template.stack import ROOT
from train_job.pipeline.retrain_decision import MAX_SHARDS, count_shards

RATES = Assumptions()


def array(photos: int, shards: int, at_once: int = 1000, list_s: float = 0, reclaims: float = 0) -> ArrayJob:
    return simulate_array(photos, shards, at_once, RATES, list_s, reclaims)


def test_one_machine_takes_its_start_its_listing_and_its_photos() -> None:
    job = array(79_000, 1, list_s=30)
    assert job.hours * 3600 == pytest.approx(RATES.start_s + 30 + 1000)
    assert job.machine_hours == pytest.approx(job.hours)


def test_twice_the_machines_take_half_the_time_and_no_more_machine_hours_for_photos() -> None:
    few, many = array(10**7, 16), array(10**7, 32)
    assert many.hours < 0.6 * few.hours
    assert many.machine_hours - few.machine_hours == pytest.approx(16 * RATES.start_s / 3600, rel=0.01)


def test_children_wait_for_free_machines() -> None:
    assert array(10**6, 50, at_once=10).hours > 3 * array(10**6, 50, at_once=50).hours


def test_interruptions_cost_time_and_machine_hours_and_lose_no_photo() -> None:
    calm, rough = array(10**8, 128), array(10**8, 128, reclaims=1)
    assert rough.interruptions > 100
    assert calm.machine_hours < rough.machine_hours < 1.5 * calm.machine_hours


def test_more_than_the_planned_machines_spend_most_of_their_time_on_the_listing() -> None:
    photos = 10**8
    listing = photos / 1000 * 0.1
    assert count_shards(photos, 10_000, 20_000) == MAX_SHARDS
    planned, twice = (array(photos, count, list_s=listing) for count in (MAX_SHARDS, 2 * MAX_SHARDS))
    assert twice.machine_hours > 1.4 * planned.machine_hours
    assert twice.hours > 0.7 * planned.hours


def test_predictions_end_at_the_rate_of_their_limit() -> None:
    for way, prefixes in itertools.product(WAYS, (1, 10)):
        played = simulate_predictions(10**8, way, 128, prefixes)
        limit = min(way.limit / 0.128, prefixes * 3500)
        assert played.photos_per_second == pytest.approx(limit)
        assert 10**8 / limit <= played.seconds <= 10**8 / limit + played.ramp_seconds + 1


def test_few_photos_end_during_the_ramp() -> None:
    played = simulate_predictions(100, WAYS[1], 128, 1)
    first, second = 5 / 0.128, 10 / 0.128  # photos/s of five and of ten executions
    assert played.seconds == pytest.approx(1 + (100 - first) / second)


def test_the_page_has_what_the_command_prints() -> None:
    text = (ROOT / "docs" / "scale.md").read_text()
    printed = text.partition("<!-- printed by the command -->\n")[2].partition("<!-- to here -->")[0]
    assert printed == CliRunner().invoke(main).output
