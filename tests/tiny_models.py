"""Random models of a few thousand parameters, one for each style of checkpoint that the runtime serves."""

from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

STYLES = ("llama", "qwen2", "qwen3", "gpt2", "mistral")
SLIDING_WINDOW = 8


def random_model(style: str = "llama", vocab_size: int = 64, seed: int = 0, width: int = 32, layers: int = 2) -> Any:
    """Return a float32 model with weights large enough that its guesses are far from ties."""
    torch.manual_seed(seed)
    common: dict[str, Any] = {
        "vocab_size": vocab_size,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    grouped = common | {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }
    if style == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=width, n_layer=layers, n_head=4, n_positions=512, **common)).eval()
    if style == "mistral":
        return MistralForCausalLM(MistralConfig(sliding_window=SLIDING_WINDOW, **grouped)).eval()
    if style == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(head_dim=16, **grouped)).eval()
    if style == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**grouped)).eval()
    return LlamaForCausalLM(LlamaConfig(**grouped)).eval()
