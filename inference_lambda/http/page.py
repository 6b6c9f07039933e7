"""The page at the function's root: one file, read when it is asked for, that may load nothing from anywhere else."""

import base64
import hashlib
import re
from pathlib import Path

from inference_lambda.events.http import Response

_FILE = Path(__file__).with_name("page.html")


def page() -> Response:
    """The page. Its policy allows the script and the style that are in the file, pictures of its own, and this API."""
    text = _FILE.read_text(encoding="utf-8")
    policy = {
        "default-src": "'none'",
        "script-src": _digest_of(text, "script"),
        "style-src": _digest_of(text, "style"),
        "img-src": "blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    headers = {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "referrer-policy": "no-referrer",
    }
    return Response(200, text, headers)


def _digest_of(text: str, element: str) -> str:
    """The one ``<script>`` or ``<style>`` of the file, as a policy's source: https://www.w3.org/TR/CSP3/#grammardef-hash-source."""
    (content,) = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
