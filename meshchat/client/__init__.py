"""What every front end shares: the connection to the daemon, and what is built on it. Knows no terminal."""
