"""The smallest system: one worker, one job."""
