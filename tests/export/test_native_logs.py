import os
import subprocess
import sys


def run(body: str, level: str = "2") -> tuple[int, str]:
    """Run ``body`` with quiet logs in a process; returns its exit status and standard error."""
    code = f"import os, sys\nfrom export.native_logs import quiet_native_logs\nwith quiet_native_logs():\n    {body}\n"
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": level}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stderr


def test_output_of_native_code_is_held_back() -> None:
    assert run("os.write(2, b'a note'); os.system('echo another note >&2')") == (0, "")


def test_held_output_is_written_after_an_exception() -> None:
    status, written = run("os.write(2, b'a note\\n'); raise ValueError('broken')")
    assert status == 1
    assert written.startswith("a note\n")
    assert "ValueError: broken" in written


def test_an_unfinished_line_of_sys_stderr_is_written_too() -> None:
    _, written = run("sys.stderr.write('half a line'); raise ValueError('broken')")
    assert "half a line" in written


def test_held_output_is_written_after_an_interruption() -> None:
    assert "a note" in run("os.write(2, b'a note\\n'); raise SystemExit(3)")[1]


def test_the_terminal_is_restored_afterwards() -> None:
    assert run("os.write(2, b'before')\nos.write(2, b'after'); print('and Python', file=sys.stderr)")[1] == (
        "afterand Python\n"
    )


def test_log_level_0_holds_nothing_back() -> None:
    assert run("os.write(2, b'a note')", level="0") == (0, "a note")


def test_file_descriptors_are_closed() -> None:
    body = "pass\nfirst = os.dup(2)\nfor _ in range(5):\n    with quiet_native_logs(): pass\nprint(os.dup(2) - first)"
    code = f"import os\nfrom export.native_logs import quiet_native_logs\n{body}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
