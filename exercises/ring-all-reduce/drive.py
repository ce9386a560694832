"""Run beside the learner's code on each rank: large inputs whose result is only a number, so that little crosses."""

from aboard.ranks.fingerprint import fingerprint


def ring_in_short(answers, tensor):
    """One number that stands for the reduced tensor."""
    return fingerprint(answers.ring_all_reduce(tensor))
