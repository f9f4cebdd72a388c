"""The local engine: a small model behind the protocol of Text Generation Inference 3.3."""
