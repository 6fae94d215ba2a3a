"""Principal directions: solvers, incremental updates, and directions without validation rows."""
