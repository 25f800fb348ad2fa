"""What is measured beside peers; run from the root of the repository: ``python -m benchmarks.NAME``."""
