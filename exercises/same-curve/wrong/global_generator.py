"""Dropout as usual: from the global generator.

fails: noise as not-repeatable
fails: curve as result-first
fails: resume as result-first
"""
# %% noise
def dropout_masks(samples, step, width, plan):
    return F.dropout(torch.ones(len(samples), width), plan.dropout)
