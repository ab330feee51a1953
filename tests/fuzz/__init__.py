"""Random calls of cowmask's eleven names: good calls do what the docs say, bad ones are refused in our words.

values    tensors of every dtype and layout, what is bad, and how results are compared
calls     what a call is
draws     cow_masks and box_masks
images    mix, erase and the transforms
training  consistency_loss and MeanTeacher
cases     a case, from its number and seed
"""
