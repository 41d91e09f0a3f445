"""Speculative decoding: what a pass that verifies guesses yields."""


def tokens_of_a_pass(acceptance: float, guesses: int) -> float:
    """Tokens that one pass of the model yields for a sequence: the guesses accepted in a row, and one of its own.

    1 + acceptance + acceptance² + … + acceptance^guesses      acceptance: chance that a guess is right, given that those
    before it are [share]; guesses [count]. Returns tokens [count].
    Source: Leviathan et al. 2023 (arXiv 2211.17192), equation 1.

    >>> tokens_of_a_pass(0.5, 2), tokens_of_a_pass(1.0, 4), tokens_of_a_pass(0.0, 4)
    (1.75, 5.0, 1.0)
    """
    return sum(acceptance**n for n in range(guesses + 1))
