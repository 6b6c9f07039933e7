"""Short simulations with injected faults; ``make simulate`` and ``make simulate-fleet`` run longer ones."""

import re
import subprocess
import sys
from pathlib import Path

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


ROOT = Path(__file__).parents[2]
FORGETFUL = "from transferlite.edge import install_state as s; s.InstallState.after = lambda self, *_: self"
"""Code that makes devices forget what their channel withdrew."""


def run_fleet(setup: str = "") -> subprocess.CompletedProcess[str]:
    """Run a fleet of 6 devices in a process of its own, because it forks."""
    code = f"{setup}\nfrom simulation.fleet import main\nmain(['--devices', '6', '--seed', '5'])"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_device_of_a_fleet_serves_one_trusted_model_that_was_not_withdrawn() -> None:
    done = run_fleet()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("the ledger balances\n")
    cuts = re.search(r"power cuts +(\d+)", done.stdout)
    assert cuts
    assert int(cuts[1]) > 3


def test_the_fleets_ledger_shows_devices_that_go_back() -> None:
    done = run_fleet(FORGETFUL)
    assert done.returncode == 1
    assert "! devices that went back to a version withdrawn from them" in done.stdout
