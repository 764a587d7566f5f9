"""Infer: chunks by local workers or a Dask cluster, into a store that survives a kill."""
