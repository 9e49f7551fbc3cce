"""Live sinks: processes that follow a run's files and tell TensorBoard, W&B, MLflow or trackio. None can stop a run.

The supervisor starts one for each run and name of `queue.sinks`; the trainer knows nothing of them. `lora-tui export`
sends finished runs the same way.
"""
