"""The loop under faults, in small; ``make simulate`` plays it for as many seeds as one likes."""

from simulation.faults import Faults
from simulation.story import play
from simulation.world import new_world


def test_nothing_is_lost_or_answered_twice_when_everything_fails_now_and_then() -> None:
    ledger, faults = play(3, 12, 12, "--variants", "float32")
    assert not ledger.wrong, "\n".join(ledger.rows())
    assert faults.counts["refused"]
    assert faults.counts["slow"]
    assert faults.counts["lost"]


def test_a_second_world_in_the_same_process_is_as_empty_as_the_first() -> None:
    for seed in range(2):
        with new_world(seed, Faults(seed)) as world:
            assert list(world.registry.versions()) == []
            assert world.records() == []
            assert world.waiting() == 1  # S3's test event, as it comes with each new notification
            world.put("incoming/photo.jpg", b"content")
            assert world.waiting() == 2
