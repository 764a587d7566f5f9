"""What Prefect's pages show of runs and maps."""
