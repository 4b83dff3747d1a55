"""A seeded world for the engine and the stores: virtual time, lossy radio, a disk that loses power."""
