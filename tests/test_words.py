"""The words of the source: phrases that made readers stumble stay out of code, messages, help and the template."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("transferlite", "train_job", "export", "inference_lambda", "benchmarks", "simulation")
SUFFIXES = {".py", ".j2", ".html", ".js", ".css", ".json", ".yaml"}
BANNED = (
    *("by commas", "is told", "are told", "was told", "were told", "told of", "mend", "mends", "mended"),
    *("so often", "so many", "of which", "for it is", "whoever", "anew", "gives up", "give up", "given up"),
    *("goes on from", "going on from", "stands for", "as it was run", "what it wants", "figures in words"),
)
PATTERN = re.compile(rf"\b({'|'.join(BANNED)})\b".replace(" ", r"\s+"), re.IGNORECASE)


def sources() -> list[Path]:
    """All files whose text a reader or a user sees, but for the documentation."""
    paths = [ROOT / "template.yaml", ROOT / "Makefile", *ROOT.glob("*/Dockerfile")]
    for folder in FOLDERS:
        paths += [path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    return paths


def test_the_pattern_finds_a_phrase_across_lines() -> None:
    assert PATTERN.findall("a bus that is\n  told; remended, listed by commas") == [
        "is\n  told",
        "by commas",
    ]


def test_no_banned_phrase_is_in_the_source() -> None:
    found = []
    for path in sources():
        text = path.read_text()
        for match in PATTERN.finditer(text):
            found.append(f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}")
    assert not found, "write it in plain words (CONTRIBUTING.md, Style):\n" + "\n".join(found)
