"""The content of the REST chains' databases, and the request to them."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

MOVIES: Final[list[dict[str, Any]]] = [
    {"title": f"Movie {number}", "year": 1900 + number} for number in range(100)
]
PATH: Final = f"/movies/?{urlencode({'title': 'Movie 42'})}"
"""Finds one of them."""
