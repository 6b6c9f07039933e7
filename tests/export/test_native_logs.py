import os
import signal
import subprocess
import sys


def run(body: str, level: str = "2") -> tuple[int, str]:
    """Run ``body`` with quiet logs in a process; returns its exit status and standard error."""
    code = f"import os, sys\nfrom export.native_logs import quiet_native_logs\nwith quiet_native_logs():\n    {body}\n"
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": level}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stderr


NOTE = "W0000 00:00:1796060697.203245   16127 helpers.cc:364] Ignored output_format."


def test_log_lines_of_native_code_are_dropped() -> None:
    assert run(f"os.write(2, b'{NOTE}\\n'); os.system('echo INFO: Created a delegate >&2')") == (0, "")


def test_other_output_is_passed_on() -> None:
    assert run(f"os.write(2, b'{NOTE}\\nno space left\\n'); os.system('echo another >&2')")[1] == (
        "no space left\nanother\n"
    )


def test_what_a_crash_writes_reaches_the_log() -> None:
    status, written = run(f"os.write(2, b'{NOTE}\\nF0000 00:00:1 7 array.cc:9] Check failed: n > 0\\n'); os.abort()")
    assert status == -signal.SIGABRT
    assert written == "F0000 00:00:1 7 array.cc:9] Check failed: n > 0\n"


def test_output_before_an_exception_is_passed_on() -> None:
    status, written = run("os.write(2, b'a note\\n'); sys.stderr.write('half a line'); raise ValueError('broken')")
    assert status == 1
    assert written.startswith("a note\nhalf a line")
    assert "ValueError: broken" in written


def test_contexts_on_two_threads_may_end_in_any_order() -> None:
    code = (
        "import os\nfrom export.native_logs import quiet_native_logs\n"
        "first, second = quiet_native_logs(), quiet_native_logs()\n"
        f"first.__enter__()\nsecond.__enter__()\nos.write(2, b'{NOTE}\\n')\nfirst.__exit__(None, None, None)\n"
        f"os.write(2, b'{NOTE}\\n')\nsecond.__exit__(None, None, None)\nos.write(2, b'after')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "after"


def test_the_terminal_is_restored_afterwards() -> None:
    assert run("os.write(2, b'before\\n')\nos.write(2, b'after'); print('and Python', file=sys.stderr)")[1] == (
        "before\nafterand Python\n"
    )


def test_log_level_0_holds_nothing_back() -> None:
    assert run("os.write(2, b'a note')", level="0") == (0, "a note")


def test_file_descriptors_are_closed() -> None:
    body = "pass\nfirst = os.dup(2)\nfor _ in range(5):\n    with quiet_native_logs(): pass\nprint(os.dup(2) - first)"
    code = f"import os\nfrom export.native_logs import quiet_native_logs\n{body}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
