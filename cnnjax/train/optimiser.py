"""The Optax optimiser that the config describes."""

import optax

from cnnjax.config import OptimConfig
from cnnjax.filters.plan import Flat, is_kernel


def make_schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """The learning rate by step: a linear warm-up from 0, then the named schedule to the end of `steps`."""
    warmup = round(config.warmup * steps)
    after = max(steps - warmup, 1)
    if config.schedule == "constant":
        schedule = optax.constant_schedule(config.lr)
    elif config.schedule == "cosine":
        schedule = optax.cosine_decay_schedule(config.lr, after)
    else:
        at: dict[int, float] = {}
        for share in config.step_at:
            step = round(share * steps) - warmup
            at[step] = at.get(step, 1.0) * config.step_factor
        schedule = optax.piecewise_constant_schedule(config.lr, at)
    if warmup == 0:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, config.lr, warmup), schedule], [warmup])


def make_optimiser(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Clipping, weight decay of the kernels alone, and the named rule, in this order (decay last for `adamw`)."""
    schedule = make_schedule(config, steps)
    clip = optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()
    decay = optax.add_decayed_weights(config.weight_decay, mask=_kernels) if config.weight_decay else optax.identity()
    if config.name == "sgd":
        rule = optax.sgd(schedule, momentum=config.momentum or None, nesterov=config.nesterov)
        return optax.chain(clip, decay, rule)
    if config.name == "adam":
        return optax.chain(clip, decay, optax.adam(schedule))
    return optax.chain(clip, optax.adamw(schedule, weight_decay=config.weight_decay, mask=_kernels))


def _kernels(params: Flat) -> dict[str, bool]:
    return {path: is_kernel(path) for path in params}
