"""Base64 with exactly one text for each content, so that a changed text is always a changed document."""

import base64
import binascii


def decode_base64(text: str) -> bytes | None:
    """Decode base64; None unless ``text`` is exactly the standard encoding of the result."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None
