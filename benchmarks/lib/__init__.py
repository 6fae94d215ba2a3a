"""What the scripts share: data, peers, measuring, results and claims."""
