"""Python imports this module when it starts, if this folder is in PYTHONPATH."""

if __name__ == "sitecustomize":
    import simulated_cuda

    simulated_cuda.install()
