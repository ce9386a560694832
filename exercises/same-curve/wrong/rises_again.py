"""The cosine goes on after the last planned sample.

fails: rate as rate-rises-again
"""
# %% rate
def learning_rate(step: int, plan: Plan) -> float:
    ratio = plan.global_batch / plan.base_batch
    peak = plan.base_lr * (ratio if plan.rule == "linear" else math.sqrt(ratio))
    samples = (step + 1) * plan.global_batch
    if samples < plan.warmup_samples:
        return peak * samples / plan.warmup_samples
    done = (samples - plan.warmup_samples) / (plan.total_samples - plan.warmup_samples)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
