"""Damage pictures and decode them: ``python -m tests.transferlite.images.fuzz_decoder --seconds 600``.

Children decode, under limits of memory and time, so that a hang, a crash of a native decoder or a memory blow-up ends
one child and is counted. Every input follows from its number, so that it can be made again; the first of each kind of
failure is kept in ``--out``. The seeds are pictures in every format that Pillow writes, and the files of ``--corpus``.
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
from pathlib import Path

import numpy as np

from tests.transferlite.damage import damaged, written
from transferlite.errors import PhotoError
from transferlite.images.decoder import PHOTO_CODES, decode
from transferlite.images.input_spec import InputSpec

MEMORY = 2 * 2**30
"""A child's address space, in bytes."""
MOST_MIB = 600
"""More resident memory than this, for one input, is a failure."""
SECONDS = 10.0
"""One input may take so long, of the processor and not by the clock, for a busy machine is no hang."""
CHUNK = 500
OUTCOMES = ("not tried", "started", "decoded", *sorted(PHOTO_CODES), "wrong answer", "other exception", "memory")
FAILURES = ("started", "wrong answer", "other exception", "memory")
RECORD = np.dtype([("outcome", np.uint8), ("seconds", np.float32), ("mib", np.float32)])
SPEC = InputSpec(32, 40)


@dataclass
class Result:
    """What came of all the inputs."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: dict[str, int] = field(default_factory=dict)
    slowest: tuple[float, int] = (0.0, 0)
    largest: tuple[float, int] = (0.0, 0)

    @property
    def tried(self) -> int:
        return sum(self.outcomes.values())


@dataclass(frozen=True)
class Inputs:
    """The fuzz's inputs by their numbers: first each seed as it is, then damaged ones."""

    seeds: list[bytes]
    seed: int

    def __getitem__(self, number: int) -> bytes:
        if number < len(self.seeds):
            return self.seeds[number]
        chance = random.Random(f"{self.seed} {number}")
        weights = [1 / (20_000 + len(data)) for data in self.seeds]
        return damaged(chance.choices(self.seeds, weights)[0], self.seeds, chance)


def judge(data: bytes, spec: InputSpec | None) -> str:
    """``decoded``, a code of the exception tree, or what is wrong; raises whatever else ``decode`` raises."""
    try:
        image = decode(data, spec, where="fuzz")
    except PhotoError as error:
        return error.code if error.code in PHOTO_CODES and str(error).startswith("fuzz: ") else "wrong answer"
    right = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size > 0
    return "decoded" if right and (spec is None or image.shape == (SPEC.height, SPEC.width, 3)) else "wrong answer"


def peak_mib() -> float:
    """The most resident memory since :func:`forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def forget_peak() -> None:
    """Linux begins to measure the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")


def decode_chunk(inputs: Inputs, first: int, records: "np.ndarray[tuple[int], np.dtype[np.void]]", out: Path) -> None:
    """The child's work: each input decoded under the limits, its record written before and after."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # libtiff speaks of each damaged file
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # kills, in the middle of native code too
    with (out / "native.txt").open("w") as native:
        faulthandler.enable(native)
        for place, record in enumerate(records):
            data = inputs[first + place]
            record["outcome"] = OUTCOMES.index("started")
            forget_peak()
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            began = time.process_time()
            try:
                outcome = judge(data, SPEC if place % 2 else None)
            except Exception:
                outcome = "other exception"
                (out / f"trace-{first + place}.txt").write_text(traceback.format_exc())
            record["seconds"] = time.process_time() - began
            signal.setitimer(signal.ITIMER_PROF, 0)
            record["mib"] = peak_mib()
            if outcome != "other exception" and record["mib"] > MOST_MIB:
                outcome = "memory"
            record["outcome"] = OUTCOMES.index(outcome)


def run_chunk(inputs: Inputs, first: int, count: int, out: Path, result: Result) -> int:
    """Decode the inputs from ``first`` in one child; returns how many it came to."""
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
        raise SystemExit(f"the fuzz itself failed at input {first + tried} (status {status})")
    for number, record in enumerate(records[:tried], first):
        outcome = OUTCOMES[record["outcome"]]
        result.slowest = max(result.slowest, (float(record["seconds"]), number))
        result.largest = max(result.largest, (float(record["mib"]), number))
        if outcome in FAILURES:
            outcome = note_failure(inputs, number, outcome, status, out, result)
        result.outcomes[outcome] += 1
    return tried


def note_failure(inputs: Inputs, number: int, outcome: str, status: int, out: Path, result: Result) -> str:
    """Name the failure's kind and keep the first input of each."""
    kind, trace = outcome, out / f"trace-{number}.txt"
    if outcome == "started":
        kind = f"hang over {SECONDS:g} s" if status == -signal.SIGPROF else f"killed by signal {-status}"
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
    """The pictures that Pillow writes, and the corpus's files."""
    files = sorted(path for path in corpus.rglob("*") if path.is_file() and path.suffix != ".csv") if corpus else []
    return [*written(), *(path.read_bytes() for path in files if path.stat().st_size)]


def fuzz(inputs: Inputs, out: Path, seconds: float, most: int | None = None) -> Result:
    """Decode inputs for ``seconds``, or the first ``most``."""
    result, ends = Result(), time.monotonic() + seconds
    while time.monotonic() < ends and (most is None or result.tried < most):
        count = CHUNK if most is None else min(CHUNK, most - result.tried)
        run_chunk(inputs, result.tried, count, out, result)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--most", type=int, help="end after so many inputs")
    parser.add_argument("--corpus", type=Path, help="further seeds: every file of a folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the folder for inputs that fail")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    inputs = Inputs(seeds_of(given.corpus), given.seed)
    decode(inputs[0])
    result = fuzz(inputs, given.out, given.seconds, given.most)
    print(f"{result.tried} inputs from {len(inputs.seeds)} seeds")
    for outcome, count in result.outcomes.most_common():
        print(f"{count:9} {outcome}" + (f"  first: {result.failures[outcome]}" if outcome in result.failures else ""))
    print(f"slowest {result.slowest[0]:.2f} s (input {result.slowest[1]})")
    print(f"most memory {result.largest[0]:.0f} MiB (input {result.largest[1]})")
    sys.exit(bool(result.failures))


if __name__ == "__main__":
    main()
