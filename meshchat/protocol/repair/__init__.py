"""What was missed, found and fetched: digests, the ladder between two routers, ASK-FILE and dumps."""
