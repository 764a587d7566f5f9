"""From labelled scenes to a trained network: chips, augmentation, losses, the loop, transfer.

Knows no files but scenes and labels.
"""
