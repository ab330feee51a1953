"""What the example trainers share. Read `Trainer.step` in trainer.py first, then methods.py.

    methods.py       what each method does with unlabelled images
    objectives.py    the losses on unlabelled images; adversarial.py is the objective without a teacher
    trainer.py       the training loop
    evaluation.py    scores of a whole data set
    config.py        the options; presets.py: their defaults for each data set and recipe
    run.py           what the commands share: train each method, print a table, write metrics.json
    checkpoints.py, tracking.py, pictures.py    files that a run writes
    data/            data sets, and batches of them
    networks/        U-Net, DeepLab v2 and their weights
    campaigns/       many trainings for one table or figure

To add a method:
    1. Write its perturbation in methods.py: a class with `mixes` and `__call__(batch, partner)`, as `Mix` or `Erase`.
    2. Add its name to `MethodName` there, and a row to `build_methods`. `--method` then offers it.
    3. Test in tests/test_segmentation_methods.py what it does to images and predictions. That a step with it works is
       tested for every name in tests/test_segmentation_training.py.
    A method that is not consistency with a teacher is an `Objective` in a file of its own, as adversarial.py. Its row
    in `build_methods` says so, and `Trainer._build` makes the objective.

To add a data set:
    1. Write data/NAME.py: a class with `names`, `image` and `label`, which data/datasets.py describes as `Split`, and
       `load_NAME`, which returns a `Dataset` of three splits.
    2. Add a function to presets.py that returns the data set's defaults.
    3. Write examples/train_NAME.py, 15 lines as train_cityscapes.py: `load` for the data, then
       `start(load, presets, __doc__)`.
    4. Test it in tests/test_NAME.py on a small copy of its layout, as tests/miniature.py makes them.
"""
