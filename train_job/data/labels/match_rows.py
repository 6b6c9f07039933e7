"""Match all rows of a label file to photos at once: names that are exactly keys as columns, all others one by one."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from train_job.arrow import pa, pc
from train_job.data.labels.listing import Listing
from train_job.data.labels.match_photos import PhotoMatch, PhotoMatcher, name_problem
from train_job.data.photos import decode_text, encode_text, text_column
from transferlite.images.find_photos import is_junk
from transferlite.storage.store import join_uri

_BLOCK = 2**17
"""Names to match at a time."""


@dataclass
class MatchedRows:
    """The photo of each row of a label file.

    Attributes:
        listing: files below the root of the photos.
        photo: index ``[N]`` of each row's file in the listing; from the listing's length on, index of a photo outside
            the root in ``outside``; -1 if the row names no usable photo.
        unusable: for the latter, the result of matching the row's name, by position of the row.
        outside: URIs of photos outside the root.
    """

    listing: Listing
    photo: NDArray[np.int64]
    unusable: dict[int, PhotoMatch] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)

    def match(self, position: int) -> PhotoMatch:
        """Return the photo of the row at a position."""
        index = int(self.photo[position])
        if index < 0:
            return self.unusable[position]
        if index >= len(self.listing):
            return PhotoMatch(self.outside[index - len(self.listing)])
        key = decode_text(self.listing.keys[index].as_py())
        return PhotoMatch(join_uri(self.listing.root, key), key)

    def uris(self, photo: NDArray[np.int64]) -> pa.LargeBinaryArray:
        """Return the URIs of usable photos, given as in ``photo``."""
        prefix = encode_text(join_uri(self.listing.root, ""))
        listed = (
            self.listing.keys if not self.outside else pa.concat_arrays([self.listing.keys, text_column(self.outside)])
        )
        is_outside = photo >= len(self.listing)
        prefixes = pa.array([prefix, b""], pa.large_binary()).take(pa.array(is_outside.astype(np.int8)))
        return pc.binary_join_element_wise(prefixes, listed.take(pa.array(photo)), pa.scalar(b"", pa.large_binary()))

    def stamps(self, photo: NDArray[np.int64]) -> pa.LargeBinaryArray:
        """Return the stamps of usable photos, given as in ``photo``; those of photos outside the root are empty."""
        listed = pa.concat_arrays([self.listing.stamps, text_column([""])])
        return listed.take(pa.array(np.minimum(photo, len(self.listing))))

    def unnamed_keys(self) -> Iterator[str]:
        """Yield the keys of the files that no row names."""
        keys = {match.key for match in self.unusable.values()}
        is_unnamed = np.ones(len(self.listing), bool)
        is_unnamed[self.photo[(self.photo >= 0) & (self.photo < len(self.listing))]] = False
        for key in self.listing.keys.filter(pa.array(is_unnamed)).to_pylist():
            if (text := decode_text(key)) not in keys:
                yield text
        yield from (key for key, entry in self.listing.left_out.items() if not entry.may_be_folder and key not in keys)


def match_rows(names: pa.LargeBinaryArray, photos: PhotoMatcher) -> MatchedRows:
    """Match the names of all rows ``[N]``."""
    listing = photos.listing
    matched = MatchedRows(listing, listing.find(names))
    for index in np.unique(matched.photo[matched.photo >= 0]):
        key = decode_text(listing.keys[int(index)].as_py())
        if name_problem(key) or is_junk(key):
            matched.photo[matched.photo == index] = -1
    positions = np.flatnonzero(matched.photo < 0)
    for start in range(0, len(positions), _BLOCK):
        _match_others(names, positions[start : start + _BLOCK], photos, matched)
    return matched


def _match_others(
    names: pa.LargeBinaryArray, positions: NDArray[np.int64], photos: PhotoMatcher, matched: MatchedRows
) -> None:
    """Match the names at ``positions``, which are not exactly keys."""
    distinct = names.take(pa.array(positions)).dictionary_encode()
    matches = photos.match_all([decode_text(name) for name in distinct.dictionary.to_pylist()])
    indices = photos.listing.find(text_column("" if match.code else match.key for match in matches))
    numbers = {uri: len(photos.listing) + number for number, uri in enumerate(matched.outside)}
    for number, match in enumerate(matches):
        if not match.code and not match.key:
            indices[number] = numbers.setdefault(match.uri, len(photos.listing) + len(numbers))
    matched.outside = list(numbers)
    codes = distinct.indices.to_numpy()
    matched.photo[positions] = indices[codes]
    for position, code in zip(positions.tolist(), codes.tolist(), strict=True):
        if indices[code] < 0:
            matched.unusable[position] = matches[code]
