"""The login that people see in a terminal: a client of the control socket and nothing more."""
