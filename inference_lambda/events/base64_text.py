"""Base64 as clients and gateways write it: with line breaks, URL-safe, without padding, or as a data URL."""

import base64
import re

_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_STANDARD_ALPHABET = str.maketrans("-_", "+/")


def decode_base64(text: str) -> bytes:
    """Decode base64 with or without line breaks, padding and a ``data:...;base64,`` prefix, in either alphabet.

    Spaces inside a line are refused: they are usually ``+`` signs that form decoding replaced, so that removing them
    would change the bytes.

    Raises:
        ValueError: the text is not base64.
    """
    lines = text.splitlines()
    joined = "".join(line.strip() for line in lines) if len(lines) > 1 else text.strip()
    prefix = _DATA_URL.match(joined)
    encoded = (joined[prefix.end() :].strip() if prefix else joined).translate(_STANDARD_ALPHABET)
    padding = "" if encoded.endswith("=") else "=" * (-len(encoded) % 4)
    return base64.b64decode(encoded + padding, validate=True)
