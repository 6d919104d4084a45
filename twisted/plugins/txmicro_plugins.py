"""Names the daemons."""
