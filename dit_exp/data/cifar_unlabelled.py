"""CIFAR-10 without its classes."""

from __future__ import annotations

from dit_exp.data.cifar import Cifar


class CifarUnlabelled(Cifar):
    """The images of CIFAR-10 and no labels, for unconditional models as in EDM, U-ViT and DiffiT."""

    num_classes = 0
    class_names = ()
