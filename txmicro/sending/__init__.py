"""Jobs that are sent: who has them, when they are sent again, when they fail. State machines without I/O."""
