"""What is fitted: one folder a fit. Data only."""
