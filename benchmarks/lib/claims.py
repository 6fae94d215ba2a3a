"""A benchmark claims something and fails when it is false: how that is said."""

# What rounding and the tolerance of the directions may cost, in share of variance.
SLACK = 0.0005


def check(claims):
    """Print a sentence for each (holds, sentence) pair; 0 if all hold, else 1."""
    claims = list(claims)
    for holds, sentence in claims:
        print(f"{'holds' if holds else 'FALSE'}: {sentence}")
    return int(not all(holds for holds, _ in claims))
