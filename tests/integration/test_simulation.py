"""A short simulation with injected faults; ``make simulate`` runs it for any number of seeds."""

from simulation.account import create_account
from simulation.faults import Faults
from simulation.scenario import run_scenario


def test_no_photo_is_lost_or_predicted_twice_while_requests_fail() -> None:
    ledger, faults = run_scenario(3, 20, 12, "--variants", "float32")
    assert not ledger.mismatches, "\n".join(ledger.rows())
    assert faults.counts["refused"]
    assert faults.counts["slow"]
    assert faults.counts["lost"]


def test_a_second_account_in_the_same_process_starts_empty() -> None:
    for seed in range(2):
        with create_account(seed, Faults(seed)) as account:
            assert list(account.registry.versions()) == []
            assert account.records() == []
            assert account.count_messages() == 1  # S3 sends a test event for each new notification
            account.put("incoming/photo.jpg", b"content")
            assert account.count_messages() == 2
