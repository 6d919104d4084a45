"""What is in the databases of the REST chains, and what is asked for."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

MOVIES: Final[list[dict[str, Any]]] = [
    {"title": f"Movie {number}", "year": 1900 + number} for number in range(100)
]
PATH: Final = f"/movies/?{urlencode({'title': 'Movie 42'})}"
"""Finds one of them."""
