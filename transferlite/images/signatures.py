"""Name the format of a file by its first bytes, so that a message can say what a file is that cannot be decoded."""

from typing import NamedTuple

from transferlite.errors import PhotoError
from transferlite.images.iso_boxes import brands

EXPORT_HINT = "export it as JPEG or PNG"
"""Advice for an image in a format that the decoder does not read."""


class FileFormat(NamedTuple):
    """Format of a file.

    Attributes:
        name: with its article, for messages.
        is_image: photos can be in this format.
        plugin: Pillow's name of a format that the decoder reads; empty for others.
        advice: what to do with a file that is no image.
    """

    name: str
    is_image: bool
    plugin: str = ""
    advice: str = "replace or remove it"


_DECODED = {
    b"\x89PNG\r\n\x1a\n": ("a PNG file", "PNG"),
    b"\xff\xd8\xff": ("a JPEG file", "JPEG"),
    b"GIF87a": ("a GIF file", "GIF"),
    b"GIF89a": ("a GIF file", "GIF"),
    b"II*\0": ("a TIFF file", "TIFF"),
    b"MM\0*": ("a TIFF file", "TIFF"),
    b"II+\0": ("a BigTIFF file", "TIFF"),
    b"MM\0+": ("a BigTIFF file", "TIFF"),
    b"8BPS\0\1": ("a Photoshop file (PSD)", "PSD"),
    b"\0\0\0\x0cjP  ": ("a JPEG 2000 file", "JPEG2000"),
    b"\xff\x4f\xff\x51": ("a JPEG 2000 file", "JPEG2000"),
    b"icns": ("an icon (ICNS)", "ICNS"),
    b"DDS ": ("a DDS texture", "DDS"),
    b"BM": ("a BMP file", "BMP"),
    b"\0\0\1\0": ("an icon (ICO)", "ICO"),
}
_IMAGES = {
    b"8BPS\0\2": "a large Photoshop file (PSB)",
    b"gimp xcf": "a GIMP file (XCF)",
    b"v/1\x01": "an OpenEXR file (EXR)",
    b"#?RADIANCE": "a Radiance file (HDR)",
    b"#?RGBE": "a Radiance file (HDR)",
    b"SIMPLE  =": "a FITS file",
    b"%!PS": "a PostScript file (EPS)",
    b"\xc5\xd0\xd3\xc6": "a PostScript file (EPS)",
    b"\xd7\xcd\xc6\x9a": "a Windows metafile (WMF)",
    b"\1\0\t\0\0\3": "a Windows metafile (WMF)",
    b"FUJIFILMCCD-RAW": "a Fujifilm raw photo (RAF)",
    b"IIRO": "an Olympus raw photo (ORF)",
    b"IIRS": "an Olympus raw photo (ORF)",
    b"MMOR": "an Olympus raw photo (ORF)",
    b"IIU\0": "a Panasonic raw photo (RW2)",
    b"\0MRM": "a Minolta raw photo (MRW)",
    b"FOVb": "a Sigma raw photo (X3F)",
    b"II\x1a\0\0\0HEAPCCDR": "a Canon raw photo (CRW)",
    b"II\xbc\1": "a JPEG XR file",
    b"BPG\xfb": "a BPG file",
    b"qoif": "a QOI file",
    b"AT&TFORM": "a DjVu file",
    b"\x8aMNG": "an MNG animation",
    b"\xabKTX": "a KTX texture",
}
_OTHERS = {
    b"%PDF-": "a PDF document",
    b"{\\rtf": "an RTF document",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Office document or thumbnail cache",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\0": "an xz archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\7": "a RAR archive",
    b"\0\5\x16\7": "an AppleDouble file, macOS's metadata of another file",
    b"\x1aE\xdf\xa3": "a video (Matroska, WebM)",
    b"\0\0\1\xba": "a video (MPEG)",
    b"\0\0\1\xb3": "a video (MPEG)",
    b"FLV\1": "a video (FLV)",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "a video (WMV)",
    b"OggS": "an Ogg file",
    b"ID3": "an audio file (MP3)",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF\r\n": "an HDF5 file",
}
_RIFF = {
    b"WEBP": FileFormat("a WebP file", True, "WEBP"),
    b"AVI ": FileFormat("a video (AVI)", False),
    b"WAVE": FileFormat("an audio file (WAV)", False),
}
_QUICKTIME_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_RAW_BRANDS = frozenset({b"crx "})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_TEXT_BYTES = 4096


def identify(data: bytes) -> FileFormat | None:
    """Return the format of a file by its signature; None if it is unknown."""
    for find in (_by_start, _by_container, _by_text):
        if found := find(data):
            return found
    return None


def unidentified_error(data: bytes, where: str) -> PhotoError:
    """Return the error for a file that Pillow does not recognise."""
    found = identify(data)
    if found is None:
        return PhotoError("not-image", f"not an image (starts with {_first_bytes(data)})", where=where)
    if found.is_image:
        return PhotoError("unsupported-format", f"{found.name} cannot be decoded", where=where, hint=EXPORT_HINT)
    return PhotoError("not-image", f"not an image but {found.name}", where=where, hint=found.advice)


def _by_start(data: bytes) -> FileFormat | None:
    if data[:4] in {b"II*\0", b"MM\0*"} and data[8:10] == b"CR":
        return FileFormat("a Canon raw photo (CR2)", True)
    for start, (name, plugin) in _DECODED.items():
        if data.startswith(start):
            return FileFormat(name, True, plugin)
    for table, is_image in ((_IMAGES, True), (_OTHERS, False)):
        for start, name in table.items():
            if data.startswith(start):
                return FileFormat(name, is_image)
    return None


def _by_container(data: bytes) -> FileFormat | None:
    """Name formats that share a container or whose signature is further on."""
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12])
    if found := brands(data):
        if found[0] in _RAW_BRANDS:
            return FileFormat("a Canon raw photo (CR3)", True)
        is_avif = bool(_AVIF_BRANDS & {*found})
        return FileFormat("an AVIF file", True, "AVIF") if is_avif else FileFormat("a video (MP4, MOV)", False)
    if data[4:8] in _QUICKTIME_BOXES:
        return FileFormat("a video (MOV)", False)
    if data[:4] == b"PK\3\4":
        return _zip(data)
    if data[128:132] == b"DICM":
        return FileFormat("a DICOM file", True)
    if data[:4] == b"\1\0\0\0" and data[40:44] == b" EMF":
        return FileFormat("a Windows metafile (EMF)", True)
    return FileFormat("a tar archive", False) if data[257:262] == b"ustar" else None


def _zip(data: bytes) -> FileFormat:
    start = data[:_TEXT_BYTES]
    if b"mimetypeimage/openraster" in start or b"mimetypeapplication/x-krita" in start:
        return FileFormat("a Krita or OpenRaster file", True)
    office = (b"[Content_Types].xml", b"word/", b"xl/", b"ppt/", b"mimetypeapplication/vnd.oasis")
    if any(word in start for word in office):
        return FileFormat("an Office document", False)
    return FileFormat("a ZIP archive", False, advice="unpack it")


def _by_text(data: bytes) -> FileFormat | None:
    text = _start_of_text(data)
    if text.startswith("version https://git-lfs"):
        return FileFormat("a Git LFS pointer", False, advice="run git lfs pull")
    if "<svg" in text and text.startswith(("<svg", "<?xml", "<!--", "<!doctype svg")):
        return FileFormat("an SVG drawing", True)
    if text.startswith(("<!doctype html", "<html", "<head", "<body")):
        return FileFormat("an HTML page", False)
    return FileFormat("an XML document", False) if text.startswith("<?xml") else None


def _start_of_text(data: bytes) -> str:
    """Decode the start of a text file in lower case, without leading blanks."""
    encoding = "utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8"
    return data[:_TEXT_BYTES].decode(encoding, "ignore").lstrip("\ufeff \t\r\n").lower()


def _first_bytes(data: bytes) -> str:
    """Format the first 8 bytes for a message: ``"%PDF-1.7"``, or hexadecimal if they are not printable."""
    head = data[:8]
    return f'"{head.decode("ascii")}"' if head.isascii() and head.decode("ascii").isprintable() else head.hex(" ")
