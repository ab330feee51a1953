"""What train_classification.py is made of. Read `training.py` first.

training.py   network, augmentation, the two arrangements, one training
methods.py    the five methods, their settings, and the settings to try
data.py       scikit-learn's digits, CIFAR-10
search.py     trials on the validation images, trainings that are not repeated
report.py     means over seeds, differences, table
"""
