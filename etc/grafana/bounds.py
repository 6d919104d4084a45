"""The bounds that turn a panel red. Each is that of an alert in ``etc/prometheus/rules.yml``; a test compares them."""

from typing import Final

ERROR_RATIO: Final = 0.05
OLDEST_SECONDS: Final = 300
REACTOR_LAG_SECONDS: Final = 0.25
REST_SECONDS: Final = 1
