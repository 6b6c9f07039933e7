"""Read photos whose folders name their classes."""

from collections import Counter
from collections.abc import Sequence
from posixpath import splitext

from train_job.data.dataset import LabelledPhotos
from train_job.data.example import Example, RejectedPhoto
from train_job.data.labels.class_names import LabelMerge, label_problem
from train_job.data.labels.folder_layout import FolderLayout, find_layout
from train_job.data.labels.listing import Listing
from train_job.data.labels.match_photos import escape_unprintable, name_problem
from train_job.data.photos import PhotosBuilder
from transferlite.images.find_photos import is_junk, is_photo, may_hide_photos
from transferlite.storage.locations import open_store
from transferlite.storage.store import join_uri
from transferlite.storage.walk_folder import SkippedEntry

_RAW_EXTENSIONS = """.3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2
.rwl .sr2 .srf .srw .x3f"""
_OTHER_EXTENSIONS = """.ai .cdr .dcm .dicom .djvu .emf .eps .exr .fits .fpx .hdr .indd .jbig2 .jxr .jng .mng .nii .pdn
.psb .svg .svgz .wdp .wmf .xcf"""
UNSUPPORTED_EXTENSIONS = frozenset((_RAW_EXTENSIONS + " " + _OTHER_EXTENSIONS).split())
"""Extensions of images that no decoder here reads: camera raw files, drawings, medical and layered images."""


def read_folders(images: str, classes: Sequence[str], merge: LabelMerge, allow_splits: bool = True) -> LabelledPhotos:
    """List the photos below ``images``; every file is used, rejected or counted as skipped.

    Args:
        images: URI or path of the root.
        classes: the classes that the user named, if any.
        merge: labels to replace.
        allow_splits: whether folders may be splits (:func:`train_job.data.labels.folder_layout.find_layout`).

    Raises:
        InputError: it is not clear which folders are classes.
        AccessDeniedError, NotFoundError: a class folder cannot be read.
    """
    listing = Listing.read(open_store(images), is_photo)
    layout = find_layout(listing.root, (key for key, _ in listing), classes, allow_splits)
    photos = PhotosBuilder()
    rejected: list[RejectedPhoto] = []
    skipped: Counter[str] = Counter()
    for key, stamp in listing:
        result = _read_entry(listing.root, key, stamp, layout, merge)
        if isinstance(result, Example):
            photos.add(result)
        elif isinstance(result, RejectedPhoto):
            rejected.append(result)
        else:
            skipped[result] += 1
    for entry in listing.left_out.values():
        if may_hide_photos(entry):
            rejected.append(_reject_skipped(listing.root, entry, layout, classes))
        else:
            skipped[f"{skip_reason(entry.key)}, and {entry.code}"] += 1
    remarks = (layout.remark,) if layout.remark else ()
    return LabelledPhotos(photos.build(), (), tuple(rejected), skipped=skipped, remarks=remarks)


def _read_entry(
    root: str, key: str, stamp: str, layout: FolderLayout, merge: LabelMerge
) -> Example | RejectedPhoto | str:
    """Return the photo, or why it is rejected, or the reason to skip the file."""
    if is_junk(key):
        return skip_reason(key)
    uri = join_uri(root, key)
    if problem := name_problem(uri):
        return RejectedPhoto(escape_unprintable(uri), None, "bad-name", problem)
    label, split = layout.parse(key)
    if not is_photo(key):
        extension = splitext(key)[1].lower()
        if extension in UNSUPPORTED_EXTENSIONS:
            return RejectedPhoto(
                uri, None, "unsupported-format", f"its extension {extension} is of no supported format"
            )
        return RejectedPhoto(uri, None, "not-photo-name", skip_reason(key)) if label else skip_reason(key)
    if not label:
        return RejectedPhoto(uri, None, "no-label", "the photo lies in no class folder")
    if problem := label_problem(label):
        return RejectedPhoto(uri, None, "bad-label", problem)
    return Example(uri, merge.replace(label), split=split, stamp=stamp)


def skip_reason(key: str) -> str:
    """Return why a file is no photo by its name."""
    if is_junk(key):
        return "hidden, or created by a file manager"
    extension = escape_unprintable(splitext(key)[1].lower())
    return f"not a photo extension ({extension})" if extension else "no extension"


def _reject_skipped(root: str, entry: SkippedEntry, layout: FolderLayout, classes: Sequence[str]) -> RejectedPhoto:
    """Reject what the listing of class folders left out.

    Raises the error of a class folder that cannot be read: the model would lack the class.
    """
    label = layout.parse(f"{entry.key}/").label
    is_class = not layout.parse(entry.key).label
    if entry.code == "duplicate":
        if entry.same_as and layout.parse(f"{entry.same_as}/").label not in ("", label):
            entry = entry._replace(code="conflicting-labels", reason=f"{entry.reason} with another label")
    elif entry.hides_files and is_class and (not classes or not label or label in classes):
        raise entry.to_error(join_uri(root, entry.key))
    return reject_skipped(root, entry)


def reject_skipped(root: str, entry: SkippedEntry) -> RejectedPhoto:
    """Reject what a listing left out, with its reason."""
    uri = escape_unprintable(join_uri(root, entry.key))
    return RejectedPhoto(uri, None, entry.code, escape_unprintable(entry.reason))
