"""Models: the registry of the paper's five and the organism, and models of your own."""

from esr.models.registry import REGISTRY, get
from esr.models.spec import Calibration, ChatVariant, GenerationProfile, ModelShape, ModelSpec
from esr.steering.source import SaeSource

__all__ = [
    "REGISTRY",
    "Calibration",
    "ChatVariant",
    "GenerationProfile",
    "ModelShape",
    "ModelSpec",
    "SaeSource",
    "get",
]
