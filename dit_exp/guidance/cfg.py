"""Classifier-free guidance with one scale at all times."""

from __future__ import annotations

from dit_exp.guidance.classifier_free import ClassifierFree


class ClassifierFreeGuidance(ClassifierFree):
    """w = scale. Source: Ho & Salimans 2022, arXiv:2207.12598, where w - 1 is called w."""
