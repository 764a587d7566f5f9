"""Classical methods to compare networks with: thresholds, edges, contours, and classifiers of single pixels. No torch."""
