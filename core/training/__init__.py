"""The only room that imports torch, transformers and peft: model, adapter, training, evaluation."""
