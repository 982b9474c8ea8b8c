"""A network's stages as an analysis sees them."""

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.analysis.subject import Subject, check_stages, logits_of, stage_outputs
from cnnjax.data.feed import standardise
from cnnjax.models.network import run_stages

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 1)).astype(np.uint8)


def subject(seed: int = 0) -> Subject:
    model = cnnjax.build("convnet", num_classes=3, width=2, depth=2, kernel_size=3, pool="stride")
    variables = model.init(jax.random.key(seed), np.zeros((1, 6, 6, 1), np.float32))
    return Subject(model, variables, (120.0,), (60.0,))


def test_stages_are_those_of_the_network_run_to_each() -> None:
    own = subject()
    outputs = stage_outputs(own, IMAGES)
    assert tuple(outputs) == own.stages == ("input", "stage1", "stage2", "head")
    inputs = standardise(IMAGES, (120.0,), (60.0,))
    np.testing.assert_array_equal(outputs["input"], inputs)
    for stage in own.model.stage_names:
        np.testing.assert_allclose(outputs[stage], run_stages(own.model, own.variables, inputs, until=stage), rtol=1e-6)
    np.testing.assert_array_equal(logits_of(own, IMAGES), outputs["head"])


def test_one_program_serves_all_runs_of_a_network() -> None:
    traced = []

    @jax.jit
    def logits(own: Subject, images: jax.Array) -> jax.Array:
        traced.append(own.model)
        return logits_of(own, images)

    one, two = logits(subject(0), IMAGES), logits(subject(1), IMAGES)
    assert len(traced) == 1 and np.any(one != two)


def test_unknown_stage_names_those_there_are() -> None:
    check_stages(subject(), ("input", "head"))
    with pytest.raises(ValueError, match="no stage 'stage3'; there are: input, stage1, stage2, head"):
        check_stages(subject(), ("stage1", "stage3"))
