"""Events: one worker publishes, and others subscribe, each for itself or as a group."""
