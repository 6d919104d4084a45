"""Small helpers that all packages use: clocks, texts, files, observers."""
