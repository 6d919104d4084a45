"""The version of txmicro."""

__version__ = "0.1.0"
