"""Hyper-parameters of GRU4Rec, the forms of it that are known by a name, and what does not go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from benchbed.models.base import ModelConfig
from benchbed.models.variants import fill, label

PRESETS: dict[str, dict[str, Any]] = {
    "windows": {},
    "recbole": {"batching": "prefixes", "init": "recbole"},
    "official": {
        "n_negatives": 2048,
        "shared_negatives": True,
        "embedding_size": 0,
        "projection": False,
        "output_bias": True,
        "cell": "reset_before",
        "hidden_size": 100,
        "dropout_embed": 0.0,
        "optimizer": "row_adagrad",
        "learning_rate": 0.05,
        "batching": "session_parallel",
        "init": "official",
    },
    "recpack": {
        "loss": "bpr",
        "embedding_mode": "separate",
        "embedding_size": 250,
        "projection": False,
        "output_bias": True,
        "cell": "reset_after",
        "hidden_size": 100,
        "dropout_embed": 0.0,
        "optimizer": "adagrad",
        "learning_rate": 0.03,
        "clip_norm": 1.0,
        "batching": "user_chunks",
        "init": "recpack",
    },
}
"""What each variant says where it differs from the defaults of :class:`GRU4RecConfig`, which are those of ``windows``."""

BATCHINGS: dict[str, dict[str, int]] = {
    "windows": {"batch_targets": 2048, "window": 50, "burn_in": 25, "batch_size": 0, "bptt": 0},
    "prefixes": {"batch_targets": 2048, "window": 50, "burn_in": 0, "batch_size": 0, "bptt": 0},
    "session_parallel": {"batch_targets": 0, "window": 0, "burn_in": 0, "batch_size": 64, "bptt": 1},
    "user_chunks": {"batch_targets": 0, "window": 0, "burn_in": 0, "batch_size": 512, "bptt": 1},
}
"""Sizes by way of batching; 0 where a way has no such size."""

FORM = (
    "shared_negatives",
    "padding_in_softmax",
    "embedding_mode",
    "projection",
    "output_bias",
    "cell",
    "optimizer",
    "batching",
    "init",
)
"""Keys that make another model of a variant when they change, besides those that its authors leave open (:data:`OPEN`)."""

OPEN = {"official": {"embedding_mode"}, "recpack": {"optimizer"}}

ELSEWHERE = {
    "num_components": "is called embedding_size here",
    "clipnorm": "is called clip_norm here",
    "num_negatives": "is called n_negatives here",
    "n_sample": "is called n_negatives here",
    "optimization_algorithm": "is called optimizer here",
    "loss_fn": "is called loss here",
    "num_layers": "is called layers here",
    "dropout": "is two rates here, dropout_embed and dropout_hidden",
    "max_epochs": "stands in the search space, beside the parameters (max_epochs), and in the benchmark (search.max_epochs)",
    "seed": "is decided by the benchmark (search.seed, final.seeds), the same for all models",
    "stopping_criterion": "is one rule for all models in a benchmark: evaluation.select_by",
    "stop_early": "is one rule for all models in a benchmark: the patience of the search space",
    "max_iter_no_change": "is called patience and stands in the search space, beside the parameters",
    "min_improvement": "would give this model another rule of patience than the others; any improvement counts",
    "keep_last": "would judge this model by another epoch than the others; the best by evaluation.select_by is kept",
    "save_best_to_file": "is not needed: the weights of the best epoch are always kept in the workspace",
    "validation_sample_size": "would choose this model on other cases than the others; all validation cases are used",
    "predict_topK": "would cut this model's lists and no others'; ranking is over all items, in blocks that fit the memory",
}
"""Names of RecPack's and of the official code that mean something else, or belong elsewhere, in a benchmark."""


class GRU4RecConfig(ModelConfig):
    """Hyper-parameters of :class:`benchbed.models.gru4rec.GRU4Rec`.

    ``variant`` decides the defaults of the other keys (:data:`PRESETS`, :data:`BATCHINGS`); those shown here are of
    ``windows``. A key that has no effect in a combination must have its neutral value there: 0, None or False.

    Attributes
    ----------
    variant
        ``windows`` (benchbed's), ``recbole``, ``official`` (Hidasi's code) or ``recpack``.
    loss
        ``cross-entropy``, ``bpr``, ``bpr-max``, ``top1`` or ``top1-max``.
    n_negatives
        Items drawn as negatives. 0 without ``shared_negatives`` means all items (``cross-entropy`` only).
    shared_negatives
        The whole batch shares its negatives: the other targets of the batch, and ``n_negatives`` drawn ones; what is equal to
        a row's own target by chance stays in. Otherwise each target has its own, drawn uniformly from all other items, and
        ``bpr`` and ``top1`` are means over them.
    sample_alpha
        Shared negatives are drawn in proportion to support ** alpha.
    bpreg
        Weight of the score regulariser of ``bpr-max``.
    elu_alpha
        Of the exponential linear unit between scores and loss; None leaves scores as they are. Not with all items as negatives.
    logq
        Strength of the correction of shared negatives for how often each is met (``cross-entropy`` only).
    padding_in_softmax
        Give the padding index a place in the denominator of the cross-entropy over all items, as RecBole and RecPack do. It is
        never a target nor recommended.
    embedding_mode
        ``shared``: one item table for input and output. ``separate``: two. ``one-hot``: the input looks up gates, no embedding.
    projection
        A linear layer from the state to the width of the shared table.
    output_bias
        A bias per item in the scores.
    cell
        ``reset_before``: the authors' cell. ``reset_after``: torch's GRU. ``reset_after_no_bias``: the same without biases.
    embedding_size, hidden_size, layers
        Width of the item table that the input looks up (0: as wide as the state; ``one-hot`` has none); width of the state;
        number of GRU layers.
    dropout_embed
        Of the looked-up input.
    dropout_hidden
        Of the output of every layer, the last included.
    optimizer
        ``adam``; ``adagrad`` and ``sgd`` as in torch; ``row_adagrad``: the authors' Adagrad, which leaves alone the rows of
        item tables that a batch does not touch.
    learning_rate, momentum
        Of the optimiser; momentum goes with ``sgd`` and ``row_adagrad``.
    clip_norm
        Largest Euclidean norm of the gradient of all parameters together; None does not clip.
    bptt
        Events that one update sees, and through which its gradient flows (``session_parallel``, ``user_chunks``).
    batching
        ``windows``, ``prefixes``: see :mod:`benchbed.models.windows`. ``session_parallel``: the authors', see
        :mod:`benchbed.models.session_parallel`. ``user_chunks``: RecPack's, see :mod:`benchbed.models.gru4rec_batches`.
    batch_size
        Sequences side by side (``session_parallel``, ``user_chunks``).
    batch_targets
        Targets of one update (``windows``, ``prefixes``).
    window
        Positions with a loss in one window; with ``prefixes`` the longest prefix.
    burn_in
        Events before a window that are encoded without loss (``windows``).
    init
        ``xavier``: tables normal, GRU uniform, padding zero. ``recbole``: the same, but the padding row is drawn and deeper
        layers are left to torch. ``official``: uniform per gate block, biases zero. ``recpack``: all uniform within 0.01.

    Examples
    --------
    >>> GRU4RecConfig(variant="official").batching, GRU4RecConfig(variant="official", loss="bpr-max").elu_alpha
    ('session_parallel', 0.5)
    """

    elsewhere: ClassVar[Mapping[str, str]] = ELSEWHERE

    variant: Literal["windows", "recbole", "official", "recpack"] = "windows"
    loss: Literal["cross-entropy", "bpr", "bpr-max", "top1", "top1-max"] = "cross-entropy"
    n_negatives: int = Field(0, ge=0)
    shared_negatives: bool = False
    sample_alpha: float = Field(0.0, ge=0, le=1)
    bpreg: float = Field(0.0, ge=0)
    elu_alpha: float | None = Field(None, gt=0)
    logq: float = Field(0.0, ge=0)
    padding_in_softmax: bool = False
    embedding_mode: Literal["one-hot", "separate", "shared"] = "shared"
    projection: bool = True
    output_bias: bool = False
    cell: Literal["reset_before", "reset_after", "reset_after_no_bias"] = "reset_after_no_bias"
    embedding_size: int = Field(64, ge=0)
    hidden_size: int = Field(128, ge=1)
    layers: int = Field(1, ge=1, le=4)
    dropout_embed: float = Field(0.3, ge=0, lt=1)
    dropout_hidden: float = Field(0.0, ge=0, lt=1)
    optimizer: Literal["adam", "adagrad", "sgd", "row_adagrad"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    momentum: float = Field(0.0, ge=0, lt=1)
    clip_norm: float | None = Field(None, gt=0)
    bptt: int = Field(0, ge=0)
    batching: Literal["windows", "prefixes", "session_parallel", "user_chunks"] = "windows"
    batch_size: int = Field(0, ge=0)
    batch_targets: int = Field(2048, ge=0)
    window: int = Field(50, ge=0)
    burn_in: int = Field(25, ge=0)
    init: Literal["xavier", "recbole", "official", "recpack"] = "xavier"

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        moved = [f"{name} {where}" for name, where in ELSEWHERE.items() if name in values]
        if moved:
            raise ValueError("; ".join(moved))
        filled = fill(values, PRESETS, "windows")
        batching = BATCHINGS.get(str(filled.get("batching", "windows")), {})
        return {**filled, **_by_loss(filled), **batching, **values}

    @model_validator(mode="after")
    def _fits(self) -> GRU4RecConfig:
        problems = list(_problems(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def all_items(self) -> bool:
        """Whether the loss is over all items."""
        return self.n_negatives == 0 and not self.shared_negatives

    @property
    def width(self) -> int:
        """Columns of the table of the inputs."""
        return self.embedding_size or self.hidden_size

    @property
    def label(self) -> str:
        """The variant, and whether its form was changed."""
        return label(self, [key for key in FORM if key not in OPEN.get(self.variant, ())], alike=("loss",))


def _by_loss(values: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults that follow from the loss and the negatives."""
    loss, variant = values.get("loss", "cross-entropy"), values["variant"]
    made: dict[str, Any] = {}
    if variant != "official":
        made["n_negatives"] = 0 if loss == "cross-entropy" else 1 if variant == "recbole" else 50
    sampled = values.get("n_negatives", made.get("n_negatives", 0))
    shared = values.get("shared_negatives", False)
    if variant in ("recbole", "recpack"):
        made["padding_in_softmax"] = loss == "cross-entropy" and not sampled and not shared
    if loss == "bpr-max":
        made["bpreg"] = 1.0
    if variant == "official" and loss == "bpr-max":
        made["elu_alpha"] = 0.5
    if variant == "official" and sampled and shared:
        made["sample_alpha"] = 0.5
    return made


def _problems(config: GRU4RecConfig) -> Iterator[str]:
    """What does not go together, in words."""
    c = config
    if c.all_items and c.loss != "cross-entropy":
        yield f"loss {c.loss} needs negatives: give n_negatives, or shared_negatives"
    if c.batching == "session_parallel" and c.shared_negatives and not c.n_negatives and c.batch_size == 1:
        yield "batch_size must be at least 2 without n_negatives: the negatives are the targets of the other sessions"
    dead = [
        ("sample_alpha", 0.0, not (c.shared_negatives and c.n_negatives), "no shared negatives are drawn"),
        ("bpreg", 0.0, c.loss != "bpr-max", "only loss bpr-max has the regulariser"),
        ("elu_alpha", None, c.all_items, "the cross-entropy is over all items"),
        ("logq", 0.0, not c.shared_negatives or c.loss != "cross-entropy", "it corrects cross-entropy with shared negatives"),
        ("padding_in_softmax", False, not c.all_items, "the loss is not over all items"),
        ("projection", False, c.embedding_mode != "shared", "only a shared table can have another width than the state"),
        ("embedding_size", 0, c.embedding_mode == "one-hot", "a one-hot input has no embedding"),
        ("dropout_embed", 0.0, c.embedding_mode == "one-hot", "a one-hot input has no embedding; dropout_hidden acts on it"),
        ("momentum", 0.0, c.optimizer in ("adam", "adagrad"), "it goes with optimizer sgd or row_adagrad"),
    ]
    for key, neutral, condition, why in dead:
        if condition and getattr(c, key) != neutral:
            yield f"{key} has no effect here and must be {neutral} ({why})"
    for key in BATCHINGS[c.batching]:
        used = BATCHINGS[c.batching][key] or (key == "burn_in" and c.batching == "windows")
        if not used and getattr(c, key):
            yield f"{key} has no effect with batching {c.batching} and must be 0"
        if used and not getattr(c, key) and key != "burn_in":
            yield f"{key} must be at least 1 with batching {c.batching}"
    if c.embedding_mode == "shared" and not c.projection and c.width != c.hidden_size:
        yield f"a shared table is as wide as the state: embedding_size must be 0 or {c.hidden_size}, or give a projection"
    if c.embedding_mode == "one-hot" and c.cell != "reset_before":
        yield "embedding_mode one-hot looks up gates, which only the cell reset_before can take"
    if c.batching == "session_parallel" and c.cell != "reset_before":
        yield "batching session_parallel steps event by event, which only the cell reset_before can do"
