"""The sections of the config and their fields, each with its type, its range and what it means.

Every field can be set in an experiment's file, or by `--config.SECTION.FIELD=VALUE`.
"""

from typing import Annotated, Literal

import pydantic
from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from cnnjax.config.text import parse_list, parse_pack, parse_rules

_STRICT = pydantic.ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


@dataclass(frozen=True, config=_STRICT)
class FilterRule:
    """Where the parameters whose path matches `pattern` come from, and whether they are trained.

    Attributes:
      pattern: a regular expression that must match the whole path, such as `stage1/.*` or `.*/kernel`.
      source: where the starting value comes from; see `cnnjax.filters.sources`. `init` is the network's own
        initialiser. A name draws or fits kernels, such as `gaussian` or `kmeans`; biases and the parameters of norms
        then start at `init`. `checkpoint:PATH` (the folder of a finished run, `{seed}` in it standing for this run's
        seed), `arm:NAME` (the run of another arm of the study with the same seed) and `safetensors:PATH` give all that
        the pattern matches, and the batch statistics that belong to it.
      state: `trained` or `frozen`.
      combinations: if not 0, each kernel is a bank of this many times as many filters, in that state, and a trained
        matrix, `mixing`, combines them linearly to the layer's own (Gavrikov and Keuper 2023).
    """

    pattern: str
    source: str = "init"
    state: Literal["trained", "frozen"] = "trained"
    combinations: Annotated[int, Field(ge=0)] = 0


FilterPlan = Annotated[tuple[FilterRule, ...], BeforeValidator(parse_rules)]


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """Which network, and what is changed in it. A field that is `None` keeps the network's own default; a field that
    the network does not have is an error.

    Attributes:
      name: a key of `cnnjax.models.registry.NETWORKS`.
      width: feature maps of the first layer (of a densenet: of each, its growth rate); all others in proportion.
      depth: stages, of a `convnet` or `jarrett`.
      kernel_size, dilation: of the filters, where all have one size: its elements, and how far two of them are apart.
      pool, pool_size, pool_stride, pool_order: the kind of down-sampling, the size of its windows or number of its
        regions, the stride of the windows, and the order of the pool `lp`.
      downsample: `stride`; or `blur`, a low-pass filter before each stride.
      norm, act, padding, init, connectivity: the parts; see `cnnjax.layers.parts.Parts`.
      stem: `imagenet` for large images, `small` for those of CIFAR or MNIST.
      form: which published form of the network.
      shortcut: of a residual network: `projected`, `padded` or `none`.
      auxiliary: whether `googlenet` has its two auxiliary heads.
      transform_input: whether `googlenet` brings standardised images to [-1, 1], as its published weights expect them.
      dropout: the rate before the dense layers.
    """

    name: str = "convnet"
    width: Annotated[int, Field(gt=0)] | None = None
    depth: Annotated[int, Field(gt=0)] | None = None
    kernel_size: Annotated[int, Field(gt=0)] | None = None
    dilation: Annotated[int, Field(gt=0)] | None = None
    pool: str | None = None
    pool_size: Annotated[int, Field(gt=0)] | None = None
    pool_stride: Annotated[int, Field(gt=0)] | None = None
    pool_order: Annotated[float, Field(ge=1)] | None = None
    downsample: str | None = None
    norm: str | None = None
    act: str | None = None
    padding: str | None = None
    init: str | None = None
    connectivity: str | None = None
    stem: str | None = None
    form: str | None = None
    shortcut: str | None = None
    auxiliary: bool | None = None
    transform_input: bool | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """Which data, and how it is shown to the network.

    Attributes:
      name: the name of a TFDS builder: one shipped here (`mnist_5k`, `digits_8x8`, `mnist1d`, `located_digits`) or any
        other.
      dir: where prepared data sets lie; empty for TFDS's own default (`TFDS_DATA_DIR`, or `~/tensorflow_datasets`).
      classes: the labels whose examples alone are used, numbered anew in this order; empty for all.
      validation: the share of the training split held out, stratified, where the set has no validation split.
      examples: how many of the training split are used, stratified, whatever is held out taken off before; 0 for all.
        A smaller number takes some of those that a greater one takes.
      shuffled: whether the positions of every example are permuted, by one permutation for all splits and seeds. The
        channels of a position stay together.
      augment: random changes of each training example, in this order: `shift`, `flip`, or a transformation, as in
        `MeasureConfig.transformations`.
      max_shift: of the change `shift`, the largest in pixels, each way and along each axis.
      strength: of transformations, the share of their range that magnitudes are drawn from, uniformly.
      image_size: if not 0, the side of the squares that images of any size are made into, as is customary on ImageNet:
        see `cnnjax.data.recipe`. Such a set is always streamed.
      streamed: whether examples are read and decoded while the run trains (`always`), or once before it and kept in
        memory (`never`). `auto` streams a set that takes more than `memory`. The order of the examples is the same.
      memory: GiB that the decoded images of all splits may take.
      workers: processes that read and decode a streamed set; 0 for this process alone; `none` for one less than there
        are cores, at most 16.
    """

    name: str = "mnist_5k"
    dir: str = ""
    classes: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(parse_list)] = ()
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    examples: Annotated[int, Field(ge=0)] = 0
    shuffled: bool = False
    augment: Annotated[tuple[str, ...], BeforeValidator(parse_list)] = ()
    max_shift: Annotated[int, Field(gt=0)] = 2
    strength: Annotated[float, Field(gt=0, le=1)] = 0.1
    image_size: Annotated[int, Field(ge=0)] = 0
    streamed: Literal["auto", "always", "never"] = "auto"
    memory: Annotated[float, Field(gt=0)] = 4.0
    workers: Annotated[int, Field(ge=0)] | None = None


@dataclass(frozen=True, config=_STRICT)
class OptimConfig:
    """How the parameters are moved.

    Attributes:
      name: `sgd` and `adam` take weight decay as part of the gradient (L2), `adamw` apart from it.
      lr: the highest learning rate, reached after the warm-up.
      momentum: of `sgd`.
      nesterov: of `sgd`.
      weight_decay: of kernels alone: biases and the parameters of norms are spared.
      schedule: what follows the warm-up: `constant`; `cosine` to 0; `step`, a factor at each of `step_at`.
      warmup: the share of all steps in which the rate rises from 0, linearly.
      step_at: shares of all steps at which the `step` schedule multiplies the rate by `step_factor`.
      clip: the largest global norm of the gradient; 0 for none.
      label_smoothing: the share of the target's mass spread evenly over all classes.
    """

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "cosine", "step"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    step_at: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], ...], BeforeValidator(parse_list), Field(min_length=1)
    ] = (0.5, 0.75)
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    clip: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """How long, in what portions, and how often to look and save.

    Attributes:
      epochs: passes over the training split; a fraction is rounded to a whole number of steps.
      batch_size: over all devices together; they must divide it.
      eval_batch_size: likewise; the last batch is padded and the padding not counted.
      eval_every: epochs between two evaluations on the validation split.
      save_every: seconds between two checkpoints; one is always saved at the end and when the run is stopped.
      accumulate: in how many parts a step computes its batch, one after another, to need less memory. The gradients are
        the same but for batch norm, whose statistics are those of each part, and dropout's draws.
      precision: of activations and products, in training and evaluation; `bfloat16` is faster on accelerators.
        Parameters, statistics and the optimiser's state are in float32 whatever it is.
      remat: whether the gradient computes each stage's inside once more instead of keeping it: less memory, a third
        more time; for deep networks.
      deterministic: whether a GPU is kept to operations that give the same bits each time, which may be slower. A CPU
        and a TPU have no others.
    """

    epochs: Annotated[float, Field(gt=0)] = 10.0
    batch_size: Annotated[int, Field(gt=0)] = 64
    eval_batch_size: Annotated[int, Field(gt=0)] = 512
    eval_every: Annotated[float, Field(gt=0)] = 1.0
    save_every: Annotated[float, Field(ge=0)] = 30.0
    accumulate: Annotated[int, Field(gt=0)] = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    deterministic: bool = False


@dataclass(frozen=True, config=_STRICT)
class FitConfig:
    """How unsupervised filters are learned (`cnnjax.filters.unsupervised`), layer by layer.

    Attributes:
      patches: how many windows of a layer's input, drawn at random from the training split, it is learned from.
      iterations: of k-means; of the sparse autoencoder, passes over the patches.
      whitening: what is added to the patches' variances before they are divided by them, as a share of the mean one.
    """

    patches: Annotated[int, Field(gt=0)] = 20000
    iterations: Annotated[int, Field(gt=0)] = 30
    whitening: Annotated[float, Field(ge=0)] = 0.1


@dataclass(frozen=True, config=_STRICT)
class HeadConfig:
    """How the last layer is found.

    Attributes:
      name: `sgd` trains it with all that is trained, by `optim`. On frozen features, `ridge` solves the least squares
        in closed form, and `logistic` lowers the cross-entropy by L-BFGS until it converges; `optim` and the epochs
        then say nothing.
      strengths: the L2 penalties tried, the best on validation taken, in units of the features' mean variance times the
        number of examples.
    """

    name: Literal["sgd", "ridge", "logistic"] = "sgd"
    strengths: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(parse_list), Field(min_length=1)
    ] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True, config=_STRICT)
class MeasureConfig:
    """What is asked of every run that has finished.

    Attributes:
      names: keys of `cnnjax.analysis.measures.MEASURES`.
      transformations: keys of `cnnjax.ops.transformations.TRANSFORMATIONS`, for the measures that go over magnitudes;
        perhaps with settings, as in `translation(border=zeros, direction=(1, 0))`.
      magnitudes: how many of each, evenly spaced over its range; with an odd number 0 is among them.
      epsilons: the sizes of attacks in L-inf, as shares of the pixels' range.
      epsilons_l2: those of attacks in L2: lengths, in the same unit.
      split: whose images are looked at.
      images: how many of them at most, the first ones.
      probe_images: how many training examples at most `probes` are fitted on, the first ones: each takes memory.
      batch_size: images at a time.
    """

    names: Annotated[tuple[str, ...], BeforeValidator(parse_list)] = ()
    transformations: Annotated[tuple[str, ...], BeforeValidator(parse_list)] = ("translation",)
    magnitudes: Annotated[int, Field(ge=2)] = 21
    epsilons: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1)], ...], BeforeValidator(parse_list), Field(min_length=1)
    ] = (0.0, 0.05, 0.1, 0.2)
    epsilons_l2: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...], BeforeValidator(parse_list), Field(min_length=1)
    ] = (0.0, 1.0, 2.0)
    split: Literal["train", "validation", "test"] = "test"
    images: Annotated[int, Field(gt=0)] = 1000
    probe_images: Annotated[int, Field(ge=2)] = 10_000
    batch_size: Annotated[int, Field(gt=0)] = 250


@dataclass(frozen=True, config=_STRICT)
class StudyConfig:
    """What is compared with what.

    Attributes:
      seeds: how many seeds each arm is run with (0, 1, ...), the same ones for all arms.
      baseline: the arm that all others are compared with, in pairs.
      pack: how many runs of one shape are trained together in one program: that many at most, or `auto`, all that
        memory holds where this makes them faster on these devices.
      slots: of a sweep by `halving` or `tpe`, how many trials are trained at a time.
      eta, min_epochs: of a sweep by `halving`, of how many trials one goes on, and when that is first decided; again at
        `eta` times as many epochs, and so on.
    """

    seeds: Annotated[int, Field(gt=0)] = 5
    baseline: str = ""
    pack: Annotated[Literal["auto"] | int, BeforeValidator(parse_pack)] = "auto"
    slots: Annotated[int, Field(gt=0)] = 8
    eta: Annotated[int, Field(ge=2)] = 3
    min_epochs: Annotated[float, Field(gt=0)] = 1.0


@dataclass(frozen=True, config=_STRICT)
class Config:
    """All that decides what an arm of a study does, but for its seed."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    filters: FilterPlan = (FilterRule(".*"),)
    fit: FitConfig = FitConfig()
    head: HeadConfig = HeadConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    measures: MeasureConfig = MeasureConfig()
    study: StudyConfig = StudyConfig()
