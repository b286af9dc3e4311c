"""How each model is trained by default."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from edgecnn.errors import InputError
from edgecnn.tasks import Task
from edgecnn_export.networks.sizes import LARGE_FROM_PIXELS, PRETRAINED_FROM_PIXELS
from edgecnn_export.training.augmentation import LITE_GLARE, Augmentation, default_augmentation
from edgecnn_export.training.distillation import Distillation

NOT_FOR_LITE = f"lite is for pictures of at least {PRETRAINED_FROM_PIXELS} pixels per side, and not for digits"
LEAST_PICTURES = 600  # in an epoch of a training with a teacher
TAUGHT_SHARE, TAUGHT_AVERAGING = 0.4, 0.1  # of its augmentation, and its averaging


@dataclass(frozen=True)
class Recipe:
    """Epochs, batch size, Adam's learning rate (falling to 0 along a cosine or constant), and what the pictures go through.

    `patience` is how many epochs without a better one on validation end the training. `simulated` is the share of a digit
    task's training pictures that is also seen as through a camera, with other handwritings and things that are no digits;
    epochs take turns at `simulations` versions of them.
    `outliers` is how many outliers of the task come to each training picture, drawn again each epoch, whose target is the
    same probability for all classes ("outlier exposure", Hendrycks, Mazeika and Dietterich, arXiv:1812.04606).
    `mixup` is the alpha of the Beta distribution by which pictures and targets of a batch are blended (Zhang et al.,
    arXiv:1710.09412); 0 blends nothing.
    `balanced` shows each class equally often. `most_pictures` are shown in an epoch at most, `least_pictures` at least, fewer
    of them several times.
    `head_views` is for pretrained networks: how many views of each picture, the first unchanged and the others augmented, the
    last layer is fitted to before the first epoch (0: it is not); `frozen` is the last of the layers that then stay the same,
    with all batch normalizations. `by_epoch` lets the learning rate fall from epoch to epoch, not from step to step, after a
    slow first one: then the number of epochs can be decided when it is known how long one takes. `most_epochs` is how many
    there may be when minutes decide it; None: `epochs`. `on_levels` ends with weights that are levels of int8
    (`training.levels`). `distillation` lets the network learn from another, trained before it on the same pictures.
    `averaging` is the share of all epochs over which weights and moving statistics are averaged, with exponentially falling
    weights (Polyak and Juditsky, SIAM J. Control Optim. 30, 1992; by epochs as in Izmailov et al., arXiv:1803.05407); the
    averages are what is validated and kept. 0 averages nothing.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    cosine: bool
    weight_decay: float
    label_smoothing: float
    augmentation: Augmentation | None
    patience: int
    simulated: float = 0.0
    simulations: int = 1
    outliers: float = 0.0
    mixup: float = 0.0
    balanced: bool = False
    most_pictures: int | None = None
    least_pictures: int = 0
    head_views: int = 0
    frozen: str | None = None
    by_epoch: bool = False
    most_epochs: int | None = None
    on_levels: bool = False
    distillation: Distillation | None = None
    averaging: float = 0.0

    def digest(self) -> str:
        """Return a SHA-256 of all that it says: two trainings by one recipe have the same."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


def taught(recipe: Recipe, task: Task) -> Recipe:
    """Return the recipe of `compact` by which it learns from `lite`; the same one for pictures that `lite` cannot have."""
    return imitating(recipe) if can_be_taught(task) else recipe


def imitating(recipe: Recipe, distillation: Distillation = Distillation()) -> Recipe:  # noqa: B008  # frozen
    """Return a recipe with a teacher.

    Pictures are shown more often where they are few, each time in another view: a teacher's answers do not wear out as labels
    do. Since the teacher sees through no bad camera, its student can be shown worse ones.
    """
    augmentation = recipe.augmentation and replace(recipe.augmentation, share=TAUGHT_SHARE)
    return replace(
        recipe,
        augmentation=augmentation,
        averaging=TAUGHT_AVERAGING,
        distillation=distillation,
        least_pictures=LEAST_PICTURES,
    )


def can_be_taught(task: Task) -> bool:
    """Tell whether the pictures of a task suit the teacher: no digits, and not too small."""
    return min(task.preprocessing.shape[:2]) >= PRETRAINED_FROM_PIXELS and task.preprocessing.fit != "digit"


def require_teachable(task: Task) -> None:
    """Raise InputError for a task whose pictures do not suit a teacher."""
    if not can_be_taught(task):
        raise InputError(f"--teacher lite: {NOT_FOR_LITE}; leave it out")


def find_recipe(model: str, task: Task) -> Recipe:
    """Return the recipe of a model for a task: ours, or the course's (Adam, batch 50, 3 or 10 epochs, pictures as they are)."""
    large = min(task.preprocessing.shape[:2]) >= LARGE_FROM_PIXELS
    if model == "course":
        return Recipe(10 if large else 3, 50, 1e-3, False, 0.0, 0.0, None, patience=10)
    if model == "compact":
        augmentation = default_augmentation(task)
        if large:
            outliers = 0.25 if task.outliers else 0.0
            return Recipe(100, 16, 3e-3, True, 0.01, 0.05, augmentation, patience=30, outliers=outliers, balanced=True)
        if task.preprocessing.fit == "digit":
            return Recipe(
                40, 128, 4e-3, True, 0.01, 0.05, augmentation, patience=20, simulated=0.75, simulations=4, outliers=0.04
            )
        return Recipe(24, 128, 4e-3, True, 0.01, 0.05, augmentation, patience=10, balanced=True)
    if model == "lite":
        augmentation = replace(default_augmentation(task), glare=LITE_GLARE)
        # With 1e-3 none of 12 epochs beat the last layer alone on one fold of small, varied data; no more was compared.
        return Recipe(
            12, 16, 2e-4, True, 0.01, 0.05, augmentation, patience=12, balanced=True, most_pictures=2000,
            head_views=3, frozen="block5_add", by_epoch=True, most_epochs=60, on_levels=True,
        )  # fmt: skip
    if model == "mobilenet":  # in short, as one trains it at first: Adam, pictures as they are
        return Recipe(20, 16, 1e-3, False, 0.0, 0.0, None, patience=20)
    raise InputError(f"no recipe for the model {model!r}; known: compact, lite, course, mobilenet")
