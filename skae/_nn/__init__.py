"""Networks, losses and penalties in plain PyTorch."""
