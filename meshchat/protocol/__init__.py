"""The engine, sans-IO: it is fed datagrams, records and the time, and hands back what to do."""
