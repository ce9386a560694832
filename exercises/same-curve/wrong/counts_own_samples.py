"""Counts the samples of one rank.

fails: rate as counts-per-rank
fails: curve as result-first
fails: resume as result-first
fails: traffic as result-first
fails: memory as result-first
"""
# %% rate
def learning_rate(step: int, plan: Plan) -> float:
    ratio = plan.global_batch / plan.base_batch
    peak = plan.base_lr * (ratio if plan.rule == "linear" else math.sqrt(ratio))
    samples = (step + 1) * plan.global_batch // dist.get_world_size()
    if samples < plan.warmup_samples:
        return peak * samples / plan.warmup_samples
    done = min(1.0, (samples - plan.warmup_samples) / (plan.total_samples - plan.warmup_samples))
    return peak * 0.5 * (1 + math.cos(math.pi * done))
