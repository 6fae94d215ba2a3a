"""Principal directions: solvers, batches, and the directions without validation rows."""
