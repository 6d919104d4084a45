"""Write the users and rights of ``examples/movies``, for ``rabbitmqctl import_definitions``.

::

    python etc/rabbitmq/movies.py > etc/rabbitmq/movies.json
"""

from __future__ import annotations

import json
import sys

from txmicro.operations.permissions import Operator, Role, definitions

MOVIES = [
    Role("WA", sends=["WD"]),
    Role("WB", answers=["WA"]),  # what WD forwards to it is WA's, and its result goes straight there
    Role("WC", subscribes=["log.#"]),
    Role("WD", sends=["WB"]),
]
OPERATORS = [Operator("operator", ["WB", "WD"])]  # for txmicro dead

if __name__ == "__main__":
    sys.stdout.write(json.dumps(definitions(MOVIES, operators=OPERATORS), indent=2) + "\n")
