"""A second, independent implementation of the bound in NumPy, float64, written from the equations.
Used by the tests only.

It knows nothing of the package: schedules are plain arrays β_1..β_T, expectations over the binomial
chain are complete enumerations, and the Gaussian terms are integrated from (2) and Bayes' rule, one
coordinate at a time.
"""

import itertools

import numpy as np


def states(n_bits):
    return np.array(list(itertools.product([0, 1], repeat=n_bits)), dtype=float)


def bit_law(x, rate):
    """Product over bits of Bernoulli(rate) at x, broadcast."""
    return np.prod(np.where(x > 0.5, rate, 1 - rate), axis=-1)


class BinomialChain:
    """Everything about a small binomial chain by enumeration. data: law over the 2^n states."""

    def __init__(self, beta, pi, data):
        self.beta, self.pi, self.data = np.asarray(beta), pi, np.asarray(data)
        self.T = len(beta)
        n_bits = int(np.log2(len(data)))
        self.x = states(n_bits)
        # forward[t][i, j] = q(x^t = j | x^{t−1} = i)
        rates = [self.x * (1 - b) + pi * b for b in self.beta]
        self.forward = [None] + [bit_law(self.x[None, :, :], r[:, None, :]) for r in rates]
        # marginal[t][i, j] = q(x^t = j | x^0 = i)
        self.marginal = [np.eye(len(self.x))]
        for t in range(1, self.T + 1):
            self.marginal.append(self.marginal[-1] @ self.forward[t])
        self.stationary = bit_law(self.x, pi)

    def reverse(self, rates):
        """rates: {t: (2^n, n)} rates of x^{t−1} given x^t for t ≥ 2. Returns reverse[t][j, i] =
        p(x^{t−1} = i|x^t = j).
        """
        result = {t: bit_law(self.x[None, :, :], r[:, None, :]) for t, r in rates.items()}
        # (44): q(x^1|x^0) π(x^0)/π(x^1)
        result[1] = (self.forward[1] * self.stationary[:, None] / self.stationary[None, :]).T
        return result

    def log_likelihood(self, reverse):
        """log p(x^0) for all states: the reverse chain multiplied out."""
        p = self.stationary
        for t in range(self.T, 0, -1):
            p = p @ reverse[t]
        return np.log(p)

    def K(self, reverse):
        """(11) directly: E_q[log p(x^0..T) − log q(x^1..T|x^0)] by sums over neighbouring pairs."""
        total = 0.0
        for t in range(1, self.T + 1):
            joint = self.data @ self.marginal[t - 1]
            pair = joint[:, None] * self.forward[t]
            used = pair > 0
            total += (
                pair[used] * (np.log(reverse[t].T[used]) - np.log(self.forward[t][used]))
            ).sum()
        return total + (self.data @ self.marginal[self.T]) @ np.log(self.stationary)

    def reverse_entropy(self, t):
        """H_q(X^{t−1}|X^t) = H(X^{t−1}, X^t) − H(X^t)."""
        pair = (self.data @ self.marginal[t - 1])[:, None] * self.forward[t]
        one = pair.sum(0)
        return -(pair[pair > 0] * np.log(pair[pair > 0])).sum() + (one * np.log(one)).sum()


def gaussian_K_terms(beta, x0, xt, t, mean, var):
    """KL( q(x^{t−1}|x^t,x^0) ‖ N(mean, var) ) summed over coordinates, by Bayes' rule on (2).
    Arrays (n, d).
    """
    beta = np.asarray(beta)
    alpha_bar_before = np.prod(1 - beta[: t - 1])
    prior_mean, prior_var = np.sqrt(alpha_bar_before) * x0, 1 - alpha_bar_before
    # Likelihood of x^{t−1}: x^t = √(1−β) x^{t−1} + √β ε.
    precision = 1 / prior_var + (1 - beta[t - 1]) / beta[t - 1]
    q_var = 1 / precision
    q_mean = q_var * (prior_mean / prior_var + np.sqrt(1 - beta[t - 1]) * xt / beta[t - 1])
    kl = 0.5 * (np.log(var / q_var) + (q_var + (q_mean - mean) ** 2) / var - 1)
    return kl.sum(-1)


def gaussian_rest(beta, x0):
    """Every other term of K per example: H(X^T|x^0) − H(X^1|x^0) + E[log π(x^T) + log π(x^0) − log
    π(x^1)].
    """
    beta = np.asarray(beta)
    d = x0.shape[1]

    def entropy(var):
        return 0.5 * d * np.log(2 * np.pi * np.e * var)

    def log_pi(alpha_bar):
        return -0.5 * (alpha_bar * (x0**2).sum(1) + d * (1 - alpha_bar) + d * np.log(2 * np.pi))

    first, last = 1 - beta[0], np.prod(1 - beta)
    return entropy(1 - last) - entropy(1 - first) + log_pi(last) + log_pi(1.0) - log_pi(first)
