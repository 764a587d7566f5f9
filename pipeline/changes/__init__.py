"""Changes: classes of two or more dates, and deforestation."""
