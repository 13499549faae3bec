"""Slides: bags of tile features, attention pooling, fine-tuning on the tiles attended most, and maps of the attention.

The protocol of Sharma et al., HistoTransfer (BHI 2021), scored per slide, with patients never divided. bags.py and bag_files.py make bags,
attention.py pools them, model.py and fitting.py fit, crossval.py judges every slide once, topk.py fine-tunes the encoder, scores.py and
study.py turn that into results, heatmap.py draws.
"""
