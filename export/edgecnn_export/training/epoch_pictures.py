"""What an epoch trains on: the training pictures, what a camera would make of digits, and outliers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, rank_in_class
from edgecnn.errors import InputError
from edgecnn.tasks import Task
from edgecnn_export.training.balancing import UNEVEN, balanced_draw
from edgecnn_export.training.batches import Chosen, Rows, one_hot, views_of
from edgecnn_export.training.distillation import Lessons
from edgecnn_export.training.recipes import Recipe

Pictures = tuple[NDArray[np.uint8], NDArray[np.float32]]
_OUTLIERS = 10  # versions of the outliers: drawing them takes a fifth of an epoch, and augmentation varies them too
_OUTLIER_VIEWS = 2  # of each version, where a teacher looks at them


@dataclass(frozen=True, eq=False)
class Joined:
    """Rows of several `arrays` of one form: `rows` `(m,)` counts them through all arrays, one behind another."""

    arrays: Sequence[NDArray[Any]]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.rows)

    def __getitem__(self, chosen: Chosen) -> NDArray[Any]:
        """Return those `chosen` `(k,)` as an array of their own."""
        rows, first = self.rows[chosen], 0
        found = np.empty((len(rows), *self.arrays[0].shape[1:]), self.arrays[0].dtype)
        for array in self.arrays:
            own = (rows >= first) & (rows < first + len(array))
            found[own] = array[rows[own] - first]
            first += len(array)
        return found


@dataclass(frozen=True, eq=False)
class Taught:
    """Targets of lessons: the first of them of training `pictures` in `views`, both `(m,)`, behind them `rest`."""

    lessons: Lessons
    class_ids: NDArray[np.int64]
    pictures: NDArray[np.int64]
    views: NDArray[np.int64]
    rest: NDArray[np.float32]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.pictures) + len(self.rest)

    def __getitem__(self, chosen: Chosen) -> NDArray[Any]:
        """Return those `chosen` `(k,)`, each `(2 * classes + h * w * d + 1,)`."""
        numbers = np.arange(len(self))[chosen]
        own = numbers < len(self.pictures)
        shown, views = self.pictures[numbers[own]], self.views[numbers[own]]
        taught = self.lessons.targets(self.class_ids[shown], shown, views)
        found = np.empty((len(numbers), taught.shape[1]), np.float32)
        found[own], found[~own] = taught, self.rest[numbers[~own] - len(self.pictures)]
        return found


class TrainingPictures:
    """The training pictures, `recipe.simulated` x n of them seen as through a camera, and `recipe.outliers` x n outliers.

    Epochs take turns at `recipe.simulations` versions of the former - each has other pictures, pens, papers and handwritings,
    and other things that are no digits - and at ten of the latter. A version is drawn when its first epoch begins and then
    kept. It depends on the seed and its own number only, so that a resumed training sees what an uninterrupted one would have
    seen. So does which of the training pictures an epoch shows: all of them, but at most `recipe.most_pictures`, and with a
    balanced recipe equally many of each class where one class has far more than another.

    With `lessons` of a teacher epochs take turns at the views that it has seen, and targets are those of the lessons; so they
    do at views of the outliers, of which the teacher says what it sees when the first epoch shows them.
    """

    def __init__(self, train: Dataset, task: Task, recipe: Recipe, *, seed: int, lessons: Lessons | None = None) -> None:
        """Raise InputError for shares out of range and for outliers of a task that can make none."""
        if not 0 <= recipe.simulated <= 1:
            raise InputError(f"simulated must be a share of the training pictures, 0 to 1, got {recipe.simulated}")
        if recipe.simulations < 1:
            raise InputError(f"simulations must be at least 1, got {recipe.simulations}")
        if recipe.outliers > 0 and task.outliers is None:
            raise InputError(f"task {task.name!r} has no generator of outliers; train it with outliers=0 in its recipe")
        self._train, self._targets = train, one_hot(train.class_ids, len(task.labels))
        self._task, self._recipe, self._seed, self._lessons = task, recipe, seed, lessons
        self._drawn: dict[tuple[str, int], Pictures] = {}
        self._maps: dict[int, NDArray[np.float16]] = {}  # of outliers, by their view

    def of_epoch(self, epoch: int) -> tuple[Rows, Rows]:
        """Return pictures `(m, h, w, c)` and their targets `(m, classes)`, or of lessons `(m, ...)`, of `epoch` from 0."""
        chosen = self._chosen(epoch)
        shown = np.arange(len(self._train)) if chosen is None else chosen
        drawn: list[Pictures] = []
        if self._recipe.simulated > 0:
            drawn.append(self._version("simulation", epoch % self._recipe.simulations, self._simulation))
        count = len(shown) + sum(len(images) for images, _ in drawn)
        if self._recipe.outliers > 0:
            drawn.append(self._version("outliers", epoch % _OUTLIERS, lambda version: self._outliers(count, version)))
        rows = np.append(shown, len(self._train) + np.arange(sum(len(images) for images, _ in drawn)))
        images = Joined([self._train.images, *(images for images, _ in drawn)], rows)
        if self._lessons is None:
            return images, Joined([self._targets, *(targets for _, targets in drawn)], rows)
        return images, Taught(self._lessons, self._train.class_ids, *self._views_shown(epoch), self._rest(epoch, drawn))

    def _rest(self, epoch: int, drawn: Sequence[Pictures]) -> NDArray[np.float32]:
        """Return the targets of what was `drawn` for an epoch, in the form of lessons."""
        assert self._lessons is not None
        parts = [self._lessons.untaught(targets) for targets in (self._targets[:0], *(targets for _, targets in drawn))]
        if self._recipe.outliers > 0:
            parts[-1] = self._described(epoch, *drawn[-1], sum(len(images) for images, _ in drawn))
        return np.concatenate(parts)

    def views_of_epoch(self, epoch: int, count: int) -> NDArray[np.int64] | None:
        """Return for each of the `count` pictures of `epoch` its number and the view it is shown in `(count, 2)`.

        Pictures of no training picture's number have numbers and views of their own. None without a teacher.
        """
        if self._lessons is None:
            return None
        shown, views = self._views_shown(epoch)
        others = self._other_views(epoch, count - len(shown))
        return np.concatenate([np.stack([shown, views], axis=1), others])

    def _other_views(self, epoch: int, count: int) -> NDArray[np.int64]:
        """Return numbers and views `(count, 2)` of what an epoch shows behind the training pictures."""
        version, turn = epoch % _OUTLIERS, epoch // _OUTLIERS % _OUTLIER_VIEWS
        numbers = len(self._train) + np.arange(count)
        return np.stack([numbers, np.full(count, 1 + version + _OUTLIERS * turn)], axis=1)

    def _described(
        self, epoch: int, images: NDArray[np.uint8], targets: NDArray[np.float32], others: int
    ) -> NDArray[np.float32]:
        """Return the targets of the outliers, the last of `others`, with the teacher's maps of the views that are shown."""
        assert self._lessons is not None
        numbers, views = self._other_views(epoch, others)[-len(images) :].T
        if (view := int(views[0])) not in self._maps:
            seen = views_of(images, self._recipe.augmentation, self._seed, numbers, views)
            self._maps[view] = self._lessons.describe(seen)
        return self._lessons.described(targets, self._maps[view])

    def _views_shown(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return numbers and views of the training pictures of an epoch; one shown twice is shown in two views."""
        assert self._lessons is not None
        chosen = self._chosen(epoch)
        shown = np.arange(len(self._train)) if chosen is None else chosen
        return shown, (epoch + shown + rank_in_class(shown)) % self._lessons.views

    def _chosen(self, epoch: int) -> NDArray[np.int64] | None:
        """Return which of the training pictures an epoch shows, None for each of them once."""
        class_ids, most = self._train.class_ids, self._recipe.most_pictures
        counts = np.bincount(class_ids)
        uneven = self._recipe.balanced and counts.max() > UNEVEN * counts[counts > 0].min()
        count = len(class_ids) if most is None else min(len(class_ids), most)
        count = max(count, self._recipe.least_pictures)
        if not uneven and count == len(class_ids):
            return None
        random = np.random.default_rng((self._seed, epoch, 1))
        if uneven:
            return balanced_draw(class_ids, count, random)
        rounds = [random.permutation(len(class_ids)) for _ in range(-(-count // len(class_ids)))]
        return np.sort(np.concatenate(rounds)[:count])

    def _version(self, kind: str, version: int, draw: Callable[[int], Pictures]) -> Pictures:
        if (kind, version) not in self._drawn:
            self._drawn[kind, version] = draw(version)
        return self._drawn[kind, version]

    def _simulation(self, version: int) -> Pictures:
        from edgecnn.datasets.synthetic.camera_digits import simulate_training_set

        seeds = np.random.SeedSequence((self._seed, version)).generate_state(2)
        count = round(self._recipe.simulated * len(self._train))
        chosen = np.random.default_rng(seeds[0]).permutation(len(self._train))[:count]
        return simulate_training_set(self._train.images[chosen, :, :, 0], self._train.class_ids[chosen], int(seeds[1]))

    def _outliers(self, pictures: int, version: int) -> Pictures:
        """Draw `recipe.outliers` outliers per picture; their targets are the same for all classes."""
        assert self._task.outliers is not None
        count, classes = round(self._recipe.outliers * pictures), self._targets.shape[1]
        drawn = self._task.outliers(count, int(np.random.SeedSequence((self._seed, version)).generate_state(1)[0]))
        return drawn, np.full((count, classes), 1 / classes, np.float32)
