"""What a video latent says: how a face moves, in numbers that mean the same on every face.

A latent is UNITS, then numbers without a name if it has such (config.MotionCodecConfig.free), then POSE.
"""

from __future__ import annotations

UNITS = (
    "browDown", "browInnerUp", "browOuterUp", "cheekSquint", "eyeBlink", "eyeSquint", "eyeWide",
    "jawOpen", "mouthFrown", "mouthFunnel", "mouthLowerDown", "mouthPress", "mouthPucker",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthSmile", "mouthStretch",
    "mouthUpperUp", "noseSneer",
)  # fmt: skip
"""Face units in 0..1, named as in ARKit; left and right move alike."""
POSE = ("gazeX", "gazeY", "yaw", "pitch", "roll", "x", "y", "z")
"""Gaze and rotation in radians, translation in eye distances."""
MOTION = UNITS + POSE
"""What has a name."""
INSIDE = ("hollow", "teeth", "tongue")
"""What is seen in an open mouth."""
KINDS = ("rest", "eye", *INSIDE)
"""What a pixel of a face shows."""
