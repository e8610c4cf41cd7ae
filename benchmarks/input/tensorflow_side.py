"""The tf.data side of this benchmark, started by it with a Python that has TensorFlow.

    PYTHON benchmarks/input/tensorflow_side.py CORES METHOD FILE...

The training pipeline of Flax's ImageNet example up to batches of uint8 images of 224x224: random
box, `decode_and_crop_jpeg`, resize by METHOD (bicubic in Flax's example), not antialiased. Each
line on standard input is a number of images; the answer is the seconds that they took.
"""

import importlib
import os
import sys
import time
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
cores, method, paths = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
# Before it is imported: TensorFlow counts the cores to size its thread pools.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])

tf: Any = importlib.import_module("tensorflow")
SIZE = 224
BATCH = 50


def read(path: Any) -> Any:
    encoded = tf.io.read_file(path)
    begin, extent, _ = tf.image.sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(encoded),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], extent[:2]], axis=0)
    image = tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
    image = tf.image.resize(image, (SIZE, SIZE), method=method)
    return tf.saturate_cast(tf.round(image), tf.uint8)


dataset = tf.data.Dataset.from_tensor_slices(paths).repeat()
dataset = dataset.map(read, num_parallel_calls=cores).batch(BATCH, drop_remainder=True)
options = tf.data.Options()
# No prefetching, so that nothing runs during the turns of the other pipelines.
options.autotune.enabled = False
options.experimental_optimization.inject_prefetch = False
options.threading.private_threadpool_size = cores
options.threading.max_intra_op_parallelism = 1
batches = iter(dataset.with_options(options))

for request in sys.stdin:
    start = time.perf_counter()
    for _ in range(int(request) // BATCH):
        next(batches)
    print(time.perf_counter() - start, flush=True)
