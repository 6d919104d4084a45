"""The ``txmicro`` command."""
