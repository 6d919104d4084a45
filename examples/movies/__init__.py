"""The movies: see :mod:`.workers`."""
