"""The numbers of the demo, which the training and the checks of it share."""

from __future__ import annotations

SEED = 2026
EPOCHS = 20
BATCH_SIZE = 24
STEPS_PER_EPOCH = 50  # 1,197 training images in batches of 24, the last one smaller
PATIENCE = 5
KEPT = 3

PEAK_RATE = 4e-3
WARMUP_STEPS = 3 * STEPS_PER_EPOCH
DECAY_STEPS = (EPOCHS - 3) * STEPS_PER_EPOCH

KILL_EPOCH = 5  # counted from 0, so in the sixth
KILL_AFTER_BATCHES = 20  # of 50
