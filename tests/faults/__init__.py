"""The fault suite: it kills, stops and partitions real brokers and processes, and records every job.

``python -m tests.faults`` runs it. trial does not collect it because it takes an hour.
"""
