"""Posterior sampling of correlated Gaussian data without a single draw: means and covariances
through the whole chain, in NumPy.

For x^0 ~ N(0, C) the best diagonal reverse kernel is linear in x^t, so that everything a sampler
draws is Gaussian with a mean linear in what is known. It knows nothing of the package: the schedule
is an array β_1..β_T. Used by the tests only.
"""

import numpy as np


def reverse_kernel(C, beta, t):
    """(A, v) of the best p(x^{t−1}|x^t) = N(A x^t, diag v) for t ≥ 2, from the joint law of x^{t−1}
    and x^t.
    """
    before = np.prod(1 - beta[: t - 1])
    S = before * C + (1 - before) * np.eye(len(C))  # of x^{t−1}
    cross = np.sqrt(1 - beta[t - 1]) * S
    A = cross @ np.linalg.inv((1 - beta[t - 1]) * S + beta[t - 1] * np.eye(len(C)))
    return A, np.diag(S - A @ cross.T)


def inpainted(C, beta, known, annealed):
    """(M, S): the sampler's x^0 given x^0 on ``known`` is N(M x^0, S); M has columns for all of
    x^0, zero where nothing is known.
    """
    d, T, E = len(C), len(beta), np.diag(known.astype(float))
    alpha_bar = np.cumprod(1 - beta)
    if annealed:
        M, S = np.sqrt(alpha_bar[-1]) * E, np.diag(np.where(known, 1 - alpha_bar[-1], 1.0))
    else:
        M, S = E, np.diag((~known).astype(float))
    for t in range(T, 0, -1):
        b = beta[t - 1]
        A, v = reverse_kernel(C, beta, t) if t > 1 else (np.sqrt(1 - b) * np.eye(d), np.full(d, b))
        on_x0, on_xt, its_v = (
            np.eye(d),
            np.zeros((d, d)),
            np.zeros(d),
        )  # known pixels as they are given
        if annealed and t > 1:
            # q(x^{t−1}|x^t, x^0): prior N(√ᾱ_{t−1} x^0, 1−ᾱ_{t−1}), likelihood of x^t = √(1−β)
            # x^{t−1} + √β ε.
            prior, gain = 1 - alpha_bar[t - 2], np.sqrt(1 - b)
            var = 1 / (1 / prior + gain**2 / b)
            on_x0, on_xt = (
                np.eye(d) * var * np.sqrt(alpha_bar[t - 2]) / prior,
                np.eye(d) * var * gain / b,
            )
            its_v = np.full(d, var)
        step = np.where(known[:, None], on_xt, A)
        M = step @ M + E @ on_x0
        S = step @ S @ step.T + np.diag(np.where(known, its_v, v))
    return M, S


def denoised(C, beta, var, annealed_power):
    """(M, S): the sampler's x^0 given y = x^0 + noise of variance ``var`` is N(M y, S);
    annealed_power(t) is the power of r at t.
    """
    d, T = len(C), len(beta)

    def multiply(A, v, t):
        precision = annealed_power(t) / var
        shrink = 1 / (1 + v * precision)
        return shrink[:, None] * A, np.diag(v * shrink * precision), v * shrink

    _, M, v = multiply(np.zeros((d, d)), np.ones(d), T + 1)
    S = np.diag(v)
    for t in range(T, 0, -1):
        b = beta[t - 1]
        A, v = reverse_kernel(C, beta, t) if t > 1 else (np.sqrt(1 - b) * np.eye(d), np.full(d, b))
        A, on_y, v = multiply(A, v, t)
        M, S = A @ M + on_y, A @ S @ A.T + np.diag(v)
    return M, S


def posterior(C, known):
    """(M, S) of the exact posterior of the missing pixels given the known ones."""
    hole = ~known
    M = C[np.ix_(hole, known)] @ np.linalg.inv(C[np.ix_(known, known)])
    return M, C[np.ix_(hole, hole)] - M @ C[np.ix_(known, hole)]


def expected_kl(C, known, M, S):
    """E over known pixels of KL( sampler ‖ exact posterior ) on the missing ones, nats."""
    hole = ~known
    M, S = M[np.ix_(hole, known)], S[np.ix_(hole, hole)]
    exact, P = posterior(C, known)
    inverse, off = np.linalg.inv(P), M - exact
    spread = off @ C[np.ix_(known, known)] @ off.T
    logdets = np.linalg.slogdet(P)[1] - np.linalg.slogdet(S)[1]
    return 0.5 * (np.trace(inverse @ (S + spread)) - hole.sum() + logdets)
