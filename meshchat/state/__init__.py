"""Bounded in-memory tables: the record set and its digests, caps, neighbours, rate limits."""
