"""``python -m pipeline`` does what ``geoseg`` does."""

from pipeline.cli import main

main()
