"""Compute-optimal parameters N and tokens D of a parametric loss: the closed forms.

L = E + A / N^alpha + B / D^beta is least, for a budget C = 6ND, where both terms gain alike from more compute. Without a
closed form, `bisect` finds the place.
"""

from collections.abc import Callable
from math import exp, log

from memcalc.formulas.formula import ESTIMATE, formula


@formula("hoffmann-2022", "equation 2", ESTIMATE)
def parametric_loss(parameters: float, tokens: float, e: float, a: float, b: float, alpha: float, beta: float) -> float:
    """The loss that a fitted surface predicts for a model and its data.

    L = E + A / N^alpha + B / D^beta

    parameters [count], tokens [count]; e is the entropy of text [nats per token]. Returns loss [nats per token].

    >>> round(parametric_loss(70e9, 1.4e12, e=1.8172, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658), 4)
    1.9739
    """
    return e + a / parameters**alpha + b / tokens**beta  # type: ignore[no-any-return]


@formula("hoffmann-2022", "equation 4", ESTIMATE)
def parametric_parameters(flops: float, a: float, b: float, alpha: float, beta: float) -> float:
    """The parameters that minimise parametric_loss under C = 6ND.

    N = G × (C / 6)^(beta / (alpha + beta))      G = (alpha A / (beta B))^(1 / (alpha + beta))

    flops [FLOP]. Returns parameters [count].

    >>> round(parametric_parameters(5.76e23, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658) / 1e9, 2)
    72.25
    """
    return (alpha * a / (beta * b)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))  # type: ignore[no-any-return]


@formula("hoffmann-2022", "equation 4, solved for D given N", ESTIMATE)
def parametric_tokens(parameters: float, a: float, b: float, alpha: float, beta: float) -> float:
    """The tokens on which a model of that size is compute-optimal.

    D = (beta B / (alpha A))^(1 / beta) × N^(alpha / beta)      parameters [count]. Returns tokens [count].

    >>> round(parametric_tokens(67e9, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658) / 1e12, 3)
    1.237
    """
    return (beta * b / (alpha * a)) ** (1 / beta) * parameters ** (alpha / beta)  # type: ignore[no-any-return]


@formula("hoffmann-2022", "equation 4, solved for N given D", ESTIMATE)
def parametric_parameters_for_tokens(tokens: float, a: float, b: float, alpha: float, beta: float) -> float:
    """The size of the model for which that much data is compute-optimal.

    N = (alpha A / (beta B))^(1 / alpha) × D^(beta / alpha)      tokens [count]. Returns parameters [count].

    >>> round(parametric_parameters_for_tokens(1.236795e12, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658) / 1e9, 2)
    67.0
    """
    return (alpha * a / (beta * b)) ** (1 / alpha) * tokens ** (beta / alpha)  # type: ignore[no-any-return]


@formula("hoffmann-2022", "equations 2 and 4, solved for C given L", ESTIMATE)
def parametric_flops(loss: float, e: float, a: float, b: float, alpha: float, beta: float) -> float:
    """The least compute that reaches a loss above e: 6ND of the optimum there.

    At the optimum alpha A / N^alpha = beta B / D^beta, so both terms are known shares of L − E.

    loss [nats per token]. Returns compute [FLOP].

    >>> f"{parametric_flops(1.974441108397412, e=1.8172, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658):.4g}"
    '5.76e+23'
    """
    return (  # type: ignore[no-any-return]
        6
        * (a * (alpha + beta) / (beta * (loss - e))) ** (1 / alpha)
        * (b * (alpha + beta) / (alpha * (loss - e))) ** (1 / beta)
    )


@formula("kaplan-2020", "section 1.2 and table 6", ESTIMATE)
def power_law(base: float, quantity: float, exponent: float) -> float:
    """A straight line on two logarithmic axes: the optimum of several laws.

    base × quantity^exponent

    quantity [FLOP] or [count]. Returns what the law's base is in: parameters or tokens [count], loss [nats per token].

    >>> power_law(base=1.3e9, quantity=1, exponent=0.73)  # Kaplan's parameters for one petaFLOP/s-day
    1300000000.0
    """
    return base * quantity**exponent  # type: ignore[no-any-return]


@formula("kaplan-2020", "equation 1.5 and table 2", ESTIMATE)
def joint_loss(n_c: float, d_c: float, alpha_n: float, alpha_d: float, parameters: float, tokens: float) -> float:
    """Kaplan's loss of a model and its data, his fit for both together.

    L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D

    parameters [count] without embeddings, tokens [count]. Returns loss [nats per token].

    >>> round(joint_loss(6.4e13, 1.8e13, 0.076, 0.103, parameters=1.5e9, tokens=22e9), 3)
    2.313
    """
    return ((n_c / parameters) ** (alpha_n / alpha_d) + d_c / tokens) ** alpha_d  # type: ignore[no-any-return]


def bisect(rises: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses zero between two bounds, halving on a logarithmic scale: at most 200 steps.

    >>> round(bisect(lambda x: x - 1000, 1, 1e12), 6)
    1000.0
    """
    bottom, top = log(low), log(high)
    for _ in range(200):
        middle = (bottom + top) / 2
        if middle in (bottom, top):
            break
        bottom, top = (bottom, middle) if rises(exp(middle)) > 0 else (middle, top)
    return exp((bottom + top) / 2)
