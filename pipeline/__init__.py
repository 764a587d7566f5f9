"""geoseg, the pipeline: plan -> infer -> stitch -> vectorize -> publish. Files in, files out; the only home of Dask."""
