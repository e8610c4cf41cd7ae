"""Every field of an experiment, with its default: a small network on handwritten digits."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    config = ConfigDict()

    # Data: `digits` (no download), `cifar10`, `imagenet2012` or any other set of labelled images by
    # its name in tensorflow-datasets; `folder` (train/CLASS/*, val/CLASS/*); `npz` (train.npz,
    # test.npz).
    config.dataset = "digits"
    config.data_dir = ""  # holds the tfds copies; empty: $TFDS_DATA_DIR or ~/tensorflow_datasets
    config.split_seed = 0  # draws the held-out fifth of digits; the same for all seeds
    config.human_labels = ""  # cifar10_n: aggre, worse, random1, random2 or random3
    config.label_noise = ""  # symmetric or asymmetric: makes training labels wrong; empty: none
    config.label_noise_rate = 0.4  # this share of them
    config.label_noise_seed = 0

    # Data sets of images of many sizes are read from disk and decoded in every epoch.
    config.image_size = 224  # side of their square crops
    config.crop_min_area = 0.08  # of the image that a training crop covers, at least
    config.eval_crop = 0.875  # side of the central crop, of the image's shorter side
    config.on_damaged = "stop"  # or skip: leaves out and counts images that cannot be decoded
    config.workers = 0  # processes that decode; 0: threads

    # Augmentation, on the device.
    config.crop_padding = 1  # pixels of black border before the random crop; 0: no crop
    config.flip = False  # random mirroring, left to right
    config.cutout_size = 0  # side of the hole, in pixels; 0: none
    config.cutout_probability = 0.5

    # Network: resnet18 (or 34, 50, 101, 152; for large images resnet18_imagenet ...),
    # wrnDEPTH_WIDTH, vgg11_bn (13, 16, 19), pyramidnet110, vit_s32, vit_s16 or vit_b16.
    config.model = "wrn10_1"
    config.dtype = "float32"  # of the arithmetic, or bfloat16; parameters stay float32
    config.init_from = ""  # run folder to take the weights from; a head of another size starts anew

    # Optimizer: sgd (the base alone), sam, vasso, asam, vasso_asam, friendly_sam, gsam, vasso_gsam,
    # looksam or ssam. A method reads those of these fields that it has; None is
    # its paper's default (docs/optimizers.md).
    config.optimizer = "vasso"
    config.rho = placeholder(float)  # radius of the perturbation
    config.rho_min = placeholder(float)  # if set, rho falls with the learning rate, rho to rho_min
    config.theta = placeholder(float)  # weight of the new gradient in the average; VaSSO: 1 is SAM
    config.sigma = placeholder(float)  # friendly_sam: how much of the average is taken out
    config.eta = placeholder(float)  # asam: least size of a parameter
    config.alpha = placeholder(float)  # gsam: weight of the gap; looksam: of the reused part
    config.density = placeholder(float)  # ssam: share of perturbed coordinates
    config.choice = placeholder(str)  # ssam: fisher or random
    config.mask_every = placeholder(int)  # ssam: steps between two masks
    config.look_every = placeholder(int)  # looksam: steps between two perturbed passes
    config.refresh_every = placeholder(int)  # steps between two clean passes; None: 1
    config.perturb_vectors = True  # biases and BatchNorm parameters, too
    config.accumulator_dtype = "float32"  # of averages; bfloat16 halves their memory
    config.batch_stats = "clean"  # pass that BatchNorm's running statistics follow, or perturbed,
    # or both, one after the other
    config.base = "sgd"
    config.lr = 0.05
    config.momentum = 0.9  # of sgd
    config.nesterov = False  # of sgd
    config.b1 = 0.9  # of adam and adamw
    config.b2 = 0.999
    config.eps = 1e-8
    config.weight_decay = 5e-4  # adamw: decoupled; sgd and adam: L2 on every parameter
    config.clip_norm = 0.0  # bound on the (perturbed) gradient's norm; 0: none
    config.label_smoothing = 0.0

    # Learning rate, per step: cosine, multistep or constant, after a linear warm-up.
    config.schedule = "cosine"
    config.warmup_epochs = 0.0
    config.final_lr = 0.0  # where cosine ends
    config.milestones = (60, 120, 160)  # epochs at which multistep decays
    config.decay_factor = 0.2  # by this

    # Length. A batch is spread over all devices.
    config.batch_size = 128
    config.epochs = 30
    config.seed = 0  # initial weights, data order, augmentation
    config.eval_every_epochs = 1

    # Records and checkpoints. One of each is written at the end of every epoch.
    config.checkpoint_every_steps = 0  # more often, for long epochs; 0: not
    config.tensorboard = True  # where TensorFlow is installed
    config.wandb_project = ""  # with the package wandb; empty: none

    # Parameters and optimizer state are spread over this many devices; 1: a copy on each.
    config.fsdp = 1

    # Several processes (Slurm, TPU pods, Open MPI, Kubernetes), found by JAX.
    config.distributed = False
    return config.lock()
