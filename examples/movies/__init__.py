"""The movies: see :mod:`.workers`."""

TYPES = ("WD", "WB", "WA", "WC")
"""Its worker types, in the order in which one process starts them. ``twistd txmicro`` runs them by default."""
