"""Ready-made workers: :mod:`.rest` (HTTP), :mod:`.db` (a store), :mod:`.logger` (a log file).

Import them from their modules: a worker pays only for the libraries that it uses.
"""
