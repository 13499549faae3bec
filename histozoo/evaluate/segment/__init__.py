"""Segmentation as a measure of a backbone: a U-Net on each initialisation of one encoder, everything else equal.

pictures.py reads pictures with masks, subsets.py splits them by group and nests training sets, model.py puts weights into the encoder,
train.py trains on the engine's Trainer, inference.py predicts whole pictures and separates objects, metrics.py and hausdorff.py score,
study.py runs sizes x initialisations x seeds and curves.py says from which size on a difference can be told from chance.

After A. S. Kataria et al., "To pretrain or not to pretrain? A case study of domain-specific pretraining for semantic segmentation in
histopathology" (MICCAI workshop MedAGI, 2023), with intervals over groups, a budget in steps, and scores of single objects.
"""
