"""What follows a product, in C: optional, compiled at first use, the same results (docs/engine.md).

``library`` says which library sessions may load, ``fuse`` rewrites a lowered graph to its operators.
"""
