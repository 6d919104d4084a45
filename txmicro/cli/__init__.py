"""The ``txmicro`` command, for operators."""
