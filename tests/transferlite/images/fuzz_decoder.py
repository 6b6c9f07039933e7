"""Fuzz the decoder with damaged pictures: ``python -m tests.transferlite.images.fuzz_decoder --seconds 600``.

Child processes decode under memory and time limits: a hang, a crash of a native decoder or a memory blow-up ends one
child and is counted. Every input is reproducible from its number. ``--out`` receives the first input of each kind of
failure. The seeds are pictures in every format that Pillow writes, and the files of ``--corpus``.
"""

import argparse
import faulthandler
import mmap
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from tests.transferlite.damage import damaged, written
from transferlite.errors import PhotoError
from transferlite.images.decoder import PHOTO_CODES, decode
from transferlite.images.input_spec import InputSpec
from transferlite.images.signatures import identify

FUNCTION_MB = "1024"
"""Size of the function whose memory budget the children have."""
ADDRESS_SPACE = 2 * 2**30
"""Limit of a child's address space, in bytes."""
MAX_MIB = 256
"""Memory above the child's start that counts as a failure."""
CPU_SECONDS = 10.0
"""CPU time above which an input counts as a hang; wall time would depend on the machine's load."""
INPUTS_PER_CHILD = 500
OUTCOMES = ("not tried", "started", "decoded", *sorted(PHOTO_CODES), "wrong result", "other exception", "memory")
FAILURES = ("started", "wrong result", "other exception", "memory")
RECORD = np.dtype([("outcome", np.uint8), ("seconds", np.float32), ("mib", np.float32)])
SPEC = InputSpec(32, 40)


@dataclass
class Result:
    """Outcomes of all inputs, and the first input of each kind of failure."""

    outcomes: Counter[str] = field(default_factory=Counter)
    codecs: dict[str, Counter[str]] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    slowest: tuple[float, int] = (0.0, 0)
    largest: tuple[float, int] = (0.0, 0)

    @property
    def tried(self) -> int:
        return sum(self.outcomes.values())


@dataclass(frozen=True)
class Inputs:
    """Inputs by number: first each seed undamaged, then damaged copies, by turns of each format."""

    seeds: list[bytes]
    seed: int

    def __getitem__(self, number: int) -> bytes:
        if number < len(self.seeds):
            return self.seeds[number]
        chance = random.Random(f"{self.seed} {number}")
        seeds = self._by_format[self.format_of(number)]
        weights = [1 / (20_000 + len(data)) for data in seeds]
        return damaged(chance.choices(seeds, weights)[0], self.seeds, chance)

    def format_of(self, number: int) -> str:
        """Return the format of the seed of an input."""
        if number < len(self.seeds):
            return format_of(self.seeds[number])
        return sorted(self._by_format)[number % len(self._by_format)]

    @cached_property
    def _by_format(self) -> dict[str, list[bytes]]:
        seeds: dict[str, list[bytes]] = {}
        for data in self.seeds:
            seeds.setdefault(format_of(data), []).append(data)
        return seeds


def format_of(data: bytes) -> str:
    """Return the name of a file's format without its article."""
    found = identify(data)
    return found.name.partition(" ")[2] if found is not None and found.is_image else "HEIC and others"


def outcome_of(data: bytes, spec: InputSpec | None) -> str:
    """Return ``decoded``, the PhotoError's code or ``wrong result``; other exceptions propagate."""
    try:
        image = decode(data, spec, where="fuzz")
    except PhotoError as error:
        return error.code if error.code in PHOTO_CODES and str(error).startswith("fuzz: ") else "wrong result"
    valid = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size > 0
    return "decoded" if valid and (spec is None or image.shape == (SPEC.height, SPEC.width, 3)) else "wrong result"


def peak_mib() -> float:
    """Return the peak resident memory since :func:`reset_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def reset_peak() -> None:
    """Make Linux reset the peak resident memory."""
    Path("/proc/self/clear_refs").write_text("5")


def decode_chunk(inputs: Inputs, first: int, records: "np.ndarray[tuple[int], np.dtype[np.void]]", out: Path) -> None:
    """Decode inputs under the limits, in the child; write each record before and after."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # libtiff prints a line for each damaged file
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the child even inside native code
    with (out / "native.txt").open("w") as native:
        faulthandler.enable(native)
        start_mib = peak_mib()
        for index, record in enumerate(records):
            data = inputs[first + index]
            record["outcome"] = OUTCOMES.index("started")
            reset_peak()
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            start = time.process_time()
            try:
                outcome = outcome_of(data, SPEC if index % 2 else None)
            except Exception:
                outcome = "other exception"
                (out / f"trace-{first + index}.txt").write_text(traceback.format_exc())
            record["seconds"] = time.process_time() - start
            signal.setitimer(signal.ITIMER_PROF, 0)
            record["mib"] = peak_mib() - start_mib
            if outcome != "other exception" and record["mib"] > MAX_MIB:
                outcome = "memory"
            record["outcome"] = OUTCOMES.index(outcome)


def run_chunk(inputs: Inputs, first: int, count: int, out: Path, result: Result) -> int:
    """Decode ``count`` inputs from number ``first`` in one child; return the number it tried before it ended."""
    records = np.frombuffer(mmap.mmap(-1, count * RECORD.itemsize), RECORD)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            decode_chunk(inputs, first, records, out)
        except BaseException:
            print(traceback.format_exc(), flush=True)
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    tried = int((records["outcome"] > 0).sum())
    if status > 0 or not tried:
        raise SystemExit(f"the fuzzer itself failed at input {first + tried} (status {status})")
    for number, record in enumerate(records[:tried], first):
        outcome = OUTCOMES[record["outcome"]]
        result.slowest = max(result.slowest, (float(record["seconds"]), number))
        result.largest = max(result.largest, (float(record["mib"]), number))
        if outcome in FAILURES:
            outcome = record_failure(inputs, number, outcome, status, out, result)
        result.outcomes[outcome] += 1
        result.codecs.setdefault(inputs.format_of(number), Counter())[outcome] += 1
    return tried


def record_failure(inputs: Inputs, number: int, outcome: str, status: int, out: Path, result: Result) -> str:
    """Return the kind of failure; save the first input of each kind."""
    kind, trace = outcome, out / f"trace-{number}.txt"
    if outcome == "started":
        kind = f"hang over {CPU_SECONDS:g} s" if status == -signal.SIGPROF else f"killed by signal {-status}"
    elif trace.exists():
        lines = trace.read_text().splitlines()
        kind = f"{lines[-1].split(':')[0]} at {lines[-3].strip() if len(lines) > 2 else '?'}"
    if kind not in result.failures:
        result.failures[kind] = number
        (out / f"input-{number}.bin").write_bytes(inputs[number])
    else:
        trace.unlink(missing_ok=True)
    return kind


def seeds_of(corpus: Path | None) -> list[bytes]:
    """Return pictures in every format that Pillow writes, and the files of the corpus."""
    files = sorted(path for path in corpus.rglob("*") if path.is_file() and path.suffix != ".csv") if corpus else []
    return [*written(), *(path.read_bytes() for path in files if path.stat().st_size)]


def fuzz(inputs: Inputs, out: Path, seconds: float, count: int | None = None) -> Result:
    """Decode inputs for ``seconds``, at most ``count`` of them."""
    result, deadline = Result(), time.monotonic() + seconds
    while time.monotonic() < deadline and (count is None or result.tried < count):
        chunk = INPUTS_PER_CHILD if count is None else min(INPUTS_PER_CHILD, count - result.tried)
        run_chunk(inputs, result.tried, chunk, out, result)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--count", type=int, help="maximum number of inputs")
    parser.add_argument("--corpus", type=Path, help="folder whose files are additional seeds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for failing inputs")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    inputs = Inputs(seeds_of(options.corpus), options.seed)
    os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = FUNCTION_MB
    decode(inputs[0])
    result = fuzz(inputs, options.out, options.seconds, options.count)
    print(f"{result.tried} inputs from {len(inputs.seeds)} seeds")
    for outcome, count in result.outcomes.most_common():
        print(f"{count:9} {outcome}" + (f"  first: {result.failures[outcome]}" if outcome in result.failures else ""))
    for name, outcomes in sorted(result.codecs.items()):
        print(
            f"{outcomes.total():9} {name}: "
            + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        )
    print(f"slowest {result.slowest[0]:.2f} s (input {result.slowest[1]})")
    print(f"peak memory {result.largest[0]:.0f} MiB above the start (input {result.largest[1]})")
    sys.exit(bool(result.failures))


if __name__ == "__main__":
    main()
