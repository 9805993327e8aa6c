"""The model in posepost/assets/figures.onnx: its drawn scenes, its training, and how well it does. From a checkout."""
