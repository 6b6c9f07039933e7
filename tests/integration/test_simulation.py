"""The loop under faults, in small; ``make simulate`` plays it for as many seeds as one likes."""

from simulation.story import play


def test_nothing_is_lost_or_answered_twice_when_everything_fails_now_and_then() -> None:
    ledger, faults = play(seed=3, labelled=12, uploads=12)
    assert not ledger.wrong, "\n".join(ledger.rows())
    assert faults.counts["refused"]
    assert faults.counts["slow"]
