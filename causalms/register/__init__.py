"""From scanner coordinates to MNI152 space and back: brain, rigid between images, affine to the template."""

from causalms.register.folder import ExternalFiles, register_patient
from causalms.register.patient import Registration, register_images
from causalms.register.scan import STANDARD_SPACE, Scan
from causalms.register.transforms import read_transform, write_transform

__all__ = [
    "STANDARD_SPACE",
    "ExternalFiles",
    "Registration",
    "Scan",
    "read_transform",
    "register_images",
    "register_patient",
    "write_transform",
]
