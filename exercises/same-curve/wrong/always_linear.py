"""The linear rule, also where the plan asks for the square root.

fails: rate as rule-swapped
fails: curve as result-first
"""
# %% rate
def learning_rate(step: int, plan: Plan) -> float:
    ratio = plan.global_batch / plan.base_batch
    peak = plan.base_lr * ratio
    samples = (step + 1) * plan.global_batch
    if samples < plan.warmup_samples:
        return peak * samples / plan.warmup_samples
    done = min(1.0, (samples - plan.warmup_samples) / (plan.total_samples - plan.warmup_samples))
    return peak * 0.5 * (1 + math.cos(math.pi * done))
