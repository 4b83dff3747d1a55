"""Real daemons, each in its own network namespace, on a radio that is true to life.

`radio` decides who hears a frame, `namespaces` makes the routers' machines, `air` moves the frames,
`net` is what the tests and `scripts/mesh` use.
"""
