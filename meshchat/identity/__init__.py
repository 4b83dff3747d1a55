"""Keys: who signs and verifies, and what is sealed under what.

All cryptography is libsodium's, through PyNaCl. Nothing here draws randomness unless a function's name says
so; the engine passes nonces in.
"""
