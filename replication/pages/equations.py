"""Which lines are which equation: number, what it says, the function that is it, and the test that
checks it.
"""

from __future__ import annotations

from typing import NamedTuple


class Equation(NamedTuple):
    """One row. number: the paper's. function: dotted, in the package. test: file and name, in
    ``tests/``.
    """

    number: str
    says: str
    function: str
    test: str


# Two lines an equation: number | what it says | function, and the test.
ROWS = """\
(1) | the kernel leaves π as it is | diffusion.kernels.BinomialKernel.q_step
    test_diffusion.py::test_forward_chain_leaves_pi_invariant
(2) | a forward step is the kernel with β_t | diffusion.kernels.GaussianKernel.q_step
    test_diffusion.py::test_forward_steps_compose_to_the_closed_form
(3) | forward trajectory, from data to π | diffusion.sampling.forward_trajectory
    test_sampling.py::test_forward_trajectory_ends_at_pi
(4) | the reverse trajectory starts at π | diffusion.kernels.BinomialKernel.stationary
    test_theory.py::test_samples_of_a_small_chain_have_the_summed_probabilities
(5) | reverse trajectory | diffusion.sampling.reverse_trajectory
    test_theory.py::test_samples_of_a_small_chain_have_the_summed_probabilities
(6) | p(x⁰), the sum over reverse trajectories | bound.counts.heartbeat_log_p
    test_theory.py::test_log_p_of_the_heartbeat_by_counts_is_that_by_all_states
(7), (8) | the same as an average over forward trajectories | bound.theory.log_ratios
    test_theory.py::test_draws_of_the_ratio_average_to_the_sums
(9) | its terms step by step: the Jarzynski equality | bound.theory.jarzynski
    test_theory.py::test_log_ratios_are_those_of_the_Jarzynski_average
(10) | the log likelihood L | bound.optimum.SwissRollOptimum.log_density
    test_optimum.py::test_swiss_roll_density_integrates_to_one
(11) | L with the average inside the logarithm | bound.theory.estimates
    test_theory.py::test_averages_rise_from_K_to_the_exact_log_p
(12), (13) | Jensen: the mean of its logarithm is K, at most L | bound.theory.log_ratios
    test_theory.py::test_every_trajectory_of_a_small_chain_summed
(14) | K, divergences and entropies | bound.bound.full_bound
    test_bound.py::test_K_equals_complete_enumeration
(14) | −H_p(X^T) in place of exact cross entropies | bound.bound.entropy_terms_eq14
    test_bound.py::test_equation_14_is_exact_for_unit_second_moment_and_only_then
(15) | the best reverse kernels maximise K | bound.optimum.HeartbeatOptimum
    test_theory.py::test_no_reverse_kernel_has_a_larger_K_than_the_optimum
(15), β | K and its gradient in β, with frozen noise | diffusion.schedules.LearnedSchedule
    test_schedules.py::test_the_gradient_of_K_in_beta_with_frozen_noise_is_that_of_finite_differences
(16) | every marginal times r, by weighted particles | diffusion.particles.particles
    test_theory.py::test_the_perturbed_chain_is_exact_with_r_through_the_model_and_not_with_constant_r
(17) to (21) | steps that carry these marginals on | diffusion.evidence.Through
    test_theory.py::test_the_perturbed_chain_is_exact_with_r_through_the_model_and_not_with_constant_r
(22) | a reverse step times r, normalised | diffusion.posterior.Denoise
    test_posterior.py::test_multiplying_by_a_gaussian_is_exact
(22), bits | Table App.1: the rate c d/(c d + (1−c)(1−d)) | diffusion.bit_evidence.perturbed
    test_theory.py::test_the_perturbed_rate_is_that_of_table_App_1
(22), Z̃ | Z̃ counted: weights of many particles | diffusion.particles.particles
    test_particles.py::test_particles_have_the_mean_variance_and_evidence_of_the_closed_form_whatever_r_is
(22), noise | denoising: what was seen is a state of the chain | diffusion.denoise.denoised
    test_denoise.py::test_denoising_from_the_step_of_this_noise_draws_the_exact_posterior
(23) | the same r at all t | diffusion.posterior.Inpaint
    test_posterior.py::test_inpainting_draws_what_the_exact_recursion_says
(24) | bounds on the entropy of a reverse step | bound.theory.reverse_entropy_bounds
    test_theory.py::test_the_entropy_by_counts_is_that_by_all_states_and_lies_in_its_bracket
(44) | the last step is the forward kernel | diffusion.chain.Kernel.p_edge
    test_diffusion.py::test_the_edge_kernel_is_equation_44
(61) | a smooth r moves the mean by f_Σ ∂log r/∂x | diffusion.guides.Shift
    test_particles.py::test_the_shift_61_is_the_exact_product_to_first_order_and_its_factor_is_what_was_given
(61), classes | r is the probability of a class given x^t | network.classifier.class_guide
    test_classifier.py::test_guided_samples_of_gaussian_classes_have_the_law_of_their_class
"""

_LINES = ROWS.splitlines()
EQUATIONS = [
    Equation(*(part.strip() for part in f"{first} | {second}".split(" | ")))
    for first, second in zip(_LINES[::2], _LINES[1::2], strict=True)
]
