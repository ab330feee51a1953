"""What the example trainers share. Read `Trainer.step` in trainer.py first, then methods.py.

    methods.py      what each method does with unlabelled images
    objectives.py   losses on unlabelled images; adversarial.py: the objective without a teacher
    trainer.py      the training loop; evaluation.py: scores; finite.py: no NaN; saved.py: the network that it leaves
    config.py       options; presets.py: their defaults
    run.py          what the commands share
    outputs.py      what is in --out: nothing there is lost unasked
    checkpoints.py, tracking.py, pictures.py: files that a run writes; storage.py: whole or not at all
    errors.py       how a command ends that cannot go on; distributed.py: the processes of a run
    data/           data sets and batches; folder.py is for a person's own pictures
    networks/       U-Net, DeepLab v2, weights
    campaigns/      many trainings for one table or figure

CONTRIBUTING.md says how to add a method or a data set.
"""
