"""The command ``pcmedge``: one module per verb, each a thin skin over the library (parse, call, render).

Nothing here is imported by the library, and a verb imports what it needs when it runs, so that ``pcmedge --help``
answers at once on a base install.
"""
