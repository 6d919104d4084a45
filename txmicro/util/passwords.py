"""Masks the passwords of URLs and of accounts, for logs and errors."""

from __future__ import annotations

import re
from typing import Any, Final

# The limits keep the time linear: texts may be long, and come from other programs.
_CREDENTIALS: Final = re.compile(r"(://[^\s:/@]{0,255}):\S{0,512}@")
_USER: Final = re.compile(r"[\w+]+://[^\s:/@]*")
_HOST_AND_PORT: Final = re.compile(r"(?>(?:[\w+]+://)?)(?:\[[^]@]*\]|[^:/?@]*)(?::\d{0,5})?(?:[/?][^@]*)?")


def mask(text: str) -> str:
    """Return *text* with ``***`` in place of the passwords of the URLs in it."""
    return _CREDENTIALS.sub(r"\1:***@", text)


def mask_url(url: str) -> str:
    """Return *url* with ``***`` in place of its password.

    Unlike :func:`mask`, this also hides the password of a URL that is not valid.
    """
    if _HOST_AND_PORT.fullmatch(url) or (url.startswith("sqlite:") and "@" not in url):
        return url
    _, at, host = url.rpartition("@")
    user = _USER.match(url)
    return f"{user[0] if user else ''}:***{at}{host if at else ''}"


def mask_account(account: Any) -> str:
    """Return *account*, which should be ``name:secret``, with ``***`` in place of the secret.

    Of anything else, which may be a secret without a name, nothing is shown.
    """
    name, colon, _ = account.partition(":") if isinstance(account, str) else ("", "", "")
    return f"{name:.64}:***" if colon else "***"
