"""HTTP pages of a process, for operators and for Prometheus."""
