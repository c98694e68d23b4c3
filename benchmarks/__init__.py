"""Measurements: speed beside peers, what samplers and reuse cost. None is a test."""

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.append(str(PROJECT / "tests"))  # composing, encoding, oracle: what tests make their own inputs with
os.environ.setdefault("DIT_EXP_HOME", str(PROJECT))
