"""The manager's memory of jobs: what it has heard of each of them, bounded, and kept in SQLite over a restart."""
