"""Takes the base learning rate for every batch.

fails: rate as rate-not-scaled
fails: curve as result-first
fails: resume as result-first
"""
# %% rate
def learning_rate(step: int, plan: Plan) -> float:
    ratio = plan.global_batch / plan.base_batch
    peak = plan.base_lr * 1
    samples = (step + 1) * plan.global_batch
    if samples < plan.warmup_samples:
        return peak * samples / plan.warmup_samples
    done = min(1.0, (samples - plan.warmup_samples) / (plan.total_samples - plan.warmup_samples))
    return peak * 0.5 * (1 + math.cos(math.pi * done))
