# SPDX-License-Identifier: Apache-2.0
"""Data: the embedded digits, readers of images, texts, sound and series, folders of classes, batches, augmentation."""

from __future__ import annotations

from bittern.data.augment import RandomCropFlip, normalize
from bittern.data.batches import Batch, Batches
from bittern.data.blood_cells import BoxedImages, blood_cells
from bittern.data.cifar10 import cifar10
from bittern.data.clinc150 import clinc150
from bittern.data.corpus import Corpus, penn_treebank, read_corpus, wikitext2
from bittern.data.digits import digits
from bittern.data.folder import FolderData, image_folder
from bittern.data.idx import read_idx
from bittern.data.images import ImageData, channel_statistics
from bittern.data.labelled_texts import LabelledTexts, TextClasses
from bittern.data.log_mel import LogMel
from bittern.data.mnist import fashion_mnist, mnist
from bittern.data.motions import SeriesClasses, basic_motions
from bittern.data.points import points_of
from bittern.data.spam_assassin import spam_assassin
from bittern.data.spoken_digits import SpokenDigits, spoken_digits
from bittern.data.strokes import Strokes, strokes
from bittern.data.text import TextData, characters, read_characters, read_words, sample_text, windows
from bittern.data.views import Views, tiled, tiles
from bittern.data.words import Vocabulary, words_of

__all__ = [
    "Batch",
    "Batches",
    "BoxedImages",
    "Corpus",
    "FolderData",
    "ImageData",
    "LabelledTexts",
    "LogMel",
    "RandomCropFlip",
    "SeriesClasses",
    "SpokenDigits",
    "Strokes",
    "TextClasses",
    "TextData",
    "Views",
    "Vocabulary",
    "basic_motions",
    "blood_cells",
    "channel_statistics",
    "characters",
    "cifar10",
    "clinc150",
    "digits",
    "fashion_mnist",
    "image_folder",
    "mnist",
    "normalize",
    "penn_treebank",
    "points_of",
    "read_characters",
    "read_corpus",
    "read_idx",
    "read_words",
    "sample_text",
    "spam_assassin",
    "spoken_digits",
    "strokes",
    "tiled",
    "tiles",
    "wikitext2",
    "windows",
    "words_of",
]
