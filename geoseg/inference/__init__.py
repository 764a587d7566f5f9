"""Inference: engines that run a network, and its run over the tiles of a chunk."""
