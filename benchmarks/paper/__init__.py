"""The study of "Synergy and Diversity in CLIP" (ICLR 2025, arXiv 2405.17139), end to end.

No code of it was released. Whoever has the weights and the image sets runs it with one command, from
the root of the repository; what is known of the paper and what is ours is told apart in every table::

    python -m benchmarks.paper --suite full --data DATA --out OUT --dry-run
    python -m benchmarks.paper --suite full --data DATA --out OUT
    python -m benchmarks.paper verify --data DATA --out OUT

``--suite tiny`` has the bundled backbones on small images, ``--suite real`` features and decisions of
real models, and neither needs a network. Everything measured is a small file in ``OUT``: a run that
was stopped goes on where it was. ``docs/paper.md`` shows what came out.
"""
