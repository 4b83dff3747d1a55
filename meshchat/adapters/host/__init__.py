"""The machine that the daemon runs on: disks and bridges, firewall, clock, settings, log, socket files."""
