import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from train_job.data.example import Example, Split
from train_job.data.photos import Photos
from train_job.data.split_table import SplitTable

hashes = st.binary(min_size=32, max_size=32).filter(any).map(bytes.hex)
examples = st.builds(
    Example,
    image=st.text(st.characters(codec="utf-8"), max_size=5) | st.just("caf\udce9.jpg"),
    label=st.sampled_from(["cat", "dog", "owl"]),
    row=st.none() | st.integers(1, 2**40),
    sha256=st.just("") | hashes,
    split=st.none() | st.sampled_from(Split),
    stamp=st.text(st.characters(codec="utf-8"), max_size=5),
)


@given(st.lists(examples, max_size=6), st.lists(examples, max_size=6))
@settings(max_examples=40, deadline=None)
def test_columns_give_back_the_photos(first: list[Example], second: list[Example]) -> None:
    photos = Photos.concatenate(Photos.of(first), Photos.of(second))
    expected = first + second
    assert list(photos) == expected
    assert [photo.stamp for photo in photos] == [photo.stamp for photo in expected]
    assert list(photos[1:3]) == expected[1:3]
    assert [photos[index] for index in range(len(photos))] == expected
    is_cat = photos.has_label(["cat"])
    assert list(photos.take(is_cat)) == [photo for photo in expected if photo.label == "cat"]
    assert photos.label_counts().get("cat", 0) == int(is_cat.sum())
    assert [("dog", "cat")[index] for index in photos.class_indices(("dog", "cat")) if index >= 0] == [
        photo.label for photo in expected if photo.label != "owl"
    ]


@given(st.dictionaries(hashes, st.sampled_from(Split), max_size=8), st.dictionaries(hashes, st.sampled_from(Split)))
@settings(max_examples=40, deadline=None)
def test_a_table_of_splits_is_the_dictionary_it_was_made_from(
    first: dict[str, Split], second: dict[str, Split]
) -> None:
    table, other = SplitTable.of(first), SplitTable.of(second)
    assert dict(table.items()) == first
    assert table.or_else(other) == {**second, **first}
    assert table.without(other.digests) == {key: split for key, split in first.items() if key not in second}
    assert table.only((Split.TEST,)) == {key: split for key, split in first.items() if split is Split.TEST}
    assert "0" * 64 not in table or "0" * 64 in first


def test_a_sha256_that_ends_in_zeros_comes_back_whole() -> None:
    sha256 = "ab" + "00" * 31
    (photo,) = Photos.of([Example("a", "cat", sha256=sha256)])
    assert photo.sha256 == sha256
    assert list(SplitTable.of({sha256: Split.TEST})) == [sha256]
    assert np.array_equal(SplitTable.of({sha256: Split.TEST}).lookup(Photos.of([photo]).digests), [2])
