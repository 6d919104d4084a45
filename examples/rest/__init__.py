"""HTTP in front: a REST worker that answers requests with the results of jobs."""
