"""Web page at the function's root, one HTML file; its content security policy forbids loading anything else."""

import base64
import hashlib
import re
from pathlib import Path

from inference_lambda.events.http import HttpResponse

_FILE = Path(__file__).with_name("page.html")


def page_response() -> HttpResponse:
    """Return the page with a policy that allows its own script and style, its photos and calls to this API."""
    text = _FILE.read_text(encoding="utf-8")
    policy = {
        "default-src": "'none'",
        "script-src": _hash_source(text, "script"),
        "style-src": _hash_source(text, "style"),
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
    return HttpResponse(200, text, headers)


def _hash_source(text: str, element: str) -> str:
    """Return the policy source of the file's only ``<script>`` or ``<style>``.

    Source: https://www.w3.org/TR/CSP3/#grammardef-hash-source
    """
    (content,) = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
