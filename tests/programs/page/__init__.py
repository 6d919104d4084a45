"""Tests the manager's page in a real browser, with a real system."""
