"""Turns the warm-up into a whole number of steps.

fails: rate as whole-steps
fails: curve as result-first
fails: resume as result-first
"""
# %% rate
def learning_rate(step, plan):
    warm, total = plan.warmup_samples // plan.global_batch, plan.total_samples // plan.global_batch
    ratio = plan.global_batch / plan.base_batch
    peak = plan.base_lr * (ratio if plan.rule == "linear" else math.sqrt(ratio))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / (total - warm))))
