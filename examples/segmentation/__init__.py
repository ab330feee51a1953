"""What the example trainers share: data sets, networks, methods, trainer, evaluation, pictures."""
