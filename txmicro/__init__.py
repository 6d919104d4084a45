"""Small workers on one message bus."""

__version__ = "0.1.0"
