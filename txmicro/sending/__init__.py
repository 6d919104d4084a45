"""Jobs that are sent: which worker has each, when it is sent again, when it fails. State machines without I/O."""
