"""Ready-made workers: :mod:`.rest` (HTTP), :mod:`.db` (a store), :mod:`.logger` (a log file).

Import them from their modules, so that a process imports only the libraries that it uses.
"""
