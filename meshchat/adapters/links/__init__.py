"""What records go over: one notion of a link (`link.py`), and its adapters."""
