"""What ``twistd`` runs: command lines, processes, logs."""
