"""The metrics of a round; None for what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pipeline.workspace import keys
from pipeline.workspace.records import VersionedRecord


class Metrics(VersionedRecord):
    """The results of a round in numbers.

    Attributes:
        round: its index.
        listed, scored, quarantined: rows of the pool.
        test_accuracy: over test images of classes in the taxonomy; `open_accuracy` counts all others as wrong.
        test_images, test_unreadable: how many of them `test_accuracy` counts, and how many test images nobody could
            read, which no accuracy counts; None without a test set.
        per_class_accuracy: of each class that is tested.
        known_accuracy, joined_accuracy: means over the classes of the beginning, and over those that joined.
        classes, classes_joined, proposed: the taxonomy's size, the classes that joined it, and answers that propose
            a name.
        held_out_accuracy: on labels that were held out of training.
        r_avg, slopes: of the bank.
        threshold, threshold_rows, threshold_from: of the score, and the labels that it was set on.
        bank_points: rows in the bank.
        ood_auroc, ood_fpr95: known against unknown images, where truth exists.
        marked_ood: rows that are marked out of distribution.
        labeled_total, labels_per_class, refused: answers that name a class, and how many do not.
        query_size: images that are asked about.
        far_from: energy from which on a strange row is far.
        query_precision: share of the last query's answers that were of this world.
        seconds, images_per_s: of each step.
    """

    name: ClassVar[str] = keys.METRICS

    round: int = 0
    listed: int = 0
    scored: int = 0
    quarantined: int = 0
    test_accuracy: float | None = None
    open_accuracy: float | None = None
    test_images: int | None = None
    test_unreadable: int | None = None
    per_class_accuracy: Mapping[str, float] = {}
    known_accuracy: float | None = None
    joined_accuracy: float | None = None
    classes: int = 0
    classes_joined: tuple[str, ...] = ()
    proposed: Mapping[str, int] = {}
    held_out_accuracy: float | None = None
    r_avg: float | None = None
    threshold: float | None = None
    threshold_rows: int = 0
    threshold_from: str = ""
    bank_points: int = 0
    slopes: Mapping[str, float] = {}
    ood_auroc: float | None = None
    ood_fpr95: float | None = None
    marked_ood: int = 0
    labeled_total: int = 0
    labels_per_class: Mapping[str, int] = {}
    refused: Mapping[str, int] = {}
    query_size: int = 0
    far_from: float | None = None
    query_precision: float | None = None
    seconds: Mapping[str, float] = {}
    images_per_s: Mapping[str, float] = {}

    @property
    def goodness(self) -> float:
        """Test accuracy, or held-out accuracy without a test set.

        The model with most of it is the best so far.
        """
        accuracy = self.held_out_accuracy if self.test_accuracy is None else self.test_accuracy
        return -1.0 if accuracy is None else accuracy
