"""The daemons that ``twistd`` runs: command lines, processes, logs."""
