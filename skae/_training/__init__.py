"""Training networks, and selecting those that beat PCA on validation rows."""
