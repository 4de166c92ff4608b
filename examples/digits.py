"""Trains on handwritten digits, is killed in an epoch, and ends as if it had not been.

Run it:

    python examples/digits.py

It trains a small convolutional network on scikit-learn's digits with five callbacks: one keeps the
three best checkpoints, one stops early and restores the best weights, one warms the learning rate
up and lets it decay, one writes charts for TensorBoard, and one makes the training resumable.

It does so twice. The first run is left alone. The second is killed for real (SIGKILL) halfway
through its sixth epoch and started again. Then everything is read back by other means - plain
Keras, TensorBoard's reader, SHA-256 - and each claim is checked: the resumed run ended with the
same bytes as the one that was never interrupted. If one claim fails, so does this script, and it
says which.

The training itself is an ordinary Keras script of about a hundred lines:
`keras_callbacks_plus/demo/training.py`. Kill it yourself, and start it again.
"""

import sys

from keras_callbacks_plus.demo import main

if __name__ == "__main__":
    sys.exit(main())
