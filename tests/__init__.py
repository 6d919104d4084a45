"""The tests. Hypothesis tries the same inputs in each run, and may take its time."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "txmicro",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("txmicro")
