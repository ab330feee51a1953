"""What the example trainers share. Read `Trainer.step` in trainer.py first, then methods.py.

    methods.py      what each method does with unlabelled images
    objectives.py   losses on unlabelled images; adversarial.py: the objective without a teacher
    trainer.py      the training loop; evaluation.py: scores; finite.py: no NaN
    config.py       options; presets.py: their defaults
    run.py          what the commands share
    outputs.py      what is in --out: nothing there is lost unasked
    checkpoints.py, tracking.py, pictures.py: files that a run writes; storage.py: whole or not at all
    errors.py       how a command ends that cannot go on; distributed.py: the processes of a run
    data/           data sets and batches; folder.py is for a person's own pictures
    networks/       U-Net, DeepLab v2, weights
    campaigns/      many trainings for one table or figure

To add a method:
    1. In methods.py write a class with `mixes` and `__call__(batch, partner)`, as `Mix` or `Erase`.
    2. Add its name to `MethodName` and a row to `build_methods`. `--method` then offers it.
    3. Test in tests/test_segmentation_methods.py what it does to images and predictions. Other tests train every name.
    A method without a teacher is an `Objective`, as in adversarial.py, which `Trainer._build` makes.

To add a data set:
    1. In data/NAME.py write a `Split` (data/datasets.py: `names`, `image`, `check_image`, `label`) and `load_NAME`,
       which returns a `Dataset`. Read images by data/decoding.py, label maps by data/label_maps.py.
    2. Add a function with its defaults to presets.py.
    3. Write examples/train_NAME.py, 15 lines as train_cityscapes.py: `load`, and `start(load, presets, __doc__)`.
    4. Test it in tests/test_NAME.py on a small copy of its layout, made by tests/miniature.py.
"""
