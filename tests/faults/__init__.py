"""The fault suite: kills, freezes and partitions on real brokers and real processes, and a ledger of every job.

``python -m tests.faults`` runs it. trial does not collect it: it takes an hour.
"""
