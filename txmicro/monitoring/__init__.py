"""Records of jobs, reports, and the numbers of the fleet that a SystemManager derives from them. No I/O."""
