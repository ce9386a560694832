"""The cosine is as long as the whole run, and begins when the warm-up ends.

fails: rate as decay-too-long
fails: resume as result-first
"""
# %% rate
def learning_rate(step: int, plan: Plan) -> float:
    """The learning rate of step 0, 1, 2, …"""
    ratio = plan.global_batch / plan.base_batch
    peak = plan.base_lr * (ratio if plan.rule == "linear" else math.sqrt(ratio))
    samples = (step + 1) * plan.global_batch
    if samples < plan.warmup_samples:
        return peak * samples / plan.warmup_samples
    done = min(1.0, (samples - plan.warmup_samples) / plan.total_samples)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
