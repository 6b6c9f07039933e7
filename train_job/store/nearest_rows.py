"""Find the feature rows most similar to others, exactly: by cosine similarity to every row, one block after another.

SimSIMD compares float16 rows as they are stored, several times as fast as NumPy, which converts them to float32 first
(``python -m benchmarks.learning.similar``). An index would have to follow every row that is added or removed.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float16]
Neighbour = tuple[int, float]
"""Position of a row, and its cosine similarity to the query, at most 1."""


def nearest_rows(
    queries: Rows, blocks: Iterable[Rows], count: int, may_find: Callable[[int], bool] = lambda position: True
) -> list[list[Neighbour]]:
    """Find the ``count`` rows most similar to each query, the most similar first.

    Args:
        queries: rows ``[Q, D]``.
        blocks: rows ``[M, D]`` each. A row's position counts the rows of all blocks before it too.
        count: number of rows to find; fewer are found if there are fewer.
        may_find: returns whether the row at a position may be found. It is called for the most similar rows only.
    """
    found: list[list[Neighbour]] = [[] for _ in queries]
    start = 0
    for block in blocks:
        for index, similarities in enumerate(cosine_similarities(queries, block)):
            least = found[index][-1][1] if len(found[index]) == count else -np.inf
            better = np.where(similarities > least, similarities, -np.inf)  # few rows of later blocks are
            best = _take(_descending(better, count), start, count, may_find)
            found[index] = sorted([*found[index], *best], key=lambda neighbour: -neighbour[1])[:count]
        start += len(block)
    return found


def _take(
    neighbours: Iterator[Neighbour], start: int, count: int, may_find: Callable[[int], bool]
) -> Iterator[Neighbour]:
    for position, similarity in neighbours:
        if count and may_find(start + position):
            count -= 1
            yield start + position, similarity
        if not count:
            return


def _descending(similarities: NDArray[np.float32], count: int) -> Iterator[Neighbour]:
    """Yield the finite similarities with their positions, the greatest first; sort no more of them than needed."""
    done = 0
    while done < len(similarities):
        size = min(max(2 * done, 4 * count), len(similarities))
        best = np.argpartition(-similarities, size - 1)[:size]
        order = best[np.lexsort((best, -similarities[best]))]
        for position in order[done:]:
            if similarities[position] == -np.inf:
                return
            yield int(position), float(similarities[position])
        done = size


def cosine_similarities(queries: Rows, rows: Rows) -> NDArray[np.float32]:
    """Return the cosine similarities ``[Q, M]`` of queries ``[Q, D]`` and rows ``[M, D]`` on one core."""
    import simsimd

    distances = simsimd.cdist(queries, rows, metric="cosine", threads=1)
    return 1 - np.array(distances, np.float32).reshape(len(queries), len(rows))
