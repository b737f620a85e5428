"""Small language models of random weights, as transformers writes them."""

from __future__ import annotations

from pathlib import Path

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] who are you no and what do want ? . , !"
MOST_TOKENS = 12
WIDTH = 16


def save_model(folder: Path, kind: str = "bert", *, seed: int = 0, n_layers: int = 2) -> Path:
    """Write a model and its tokeniser, which writes all in lower case, into a folder."""
    import torch
    import transformers as hf  # takes seconds

    size = {"vocab_size": len(WORDS.split()), "bos_token_id": 2, "eos_token_id": 3}
    t5 = {"d_model": WIDTH, "num_layers": n_layers, "num_heads": 2, "d_kv": 8, "d_ff": 24}
    gpt2 = {"n_embd": WIDTH, "n_layer": n_layers, "n_head": 2, "n_positions": MOST_TOKENS}
    bert = {
        "hidden_size": WIDTH,
        "num_hidden_layers": n_layers,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": MOST_TOKENS,
    }
    config = {
        "bert": lambda: hf.BertConfig(**size, **bert),
        "gpt2": lambda: hf.GPT2Config(**size, **gpt2),
        "t5": lambda: hf.T5Config(**size, **t5),
    }[kind]()
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS.split()))
    tokeniser = hf.BertTokenizerFast(vocab=str(vocabulary), model_max_length=MOST_TOKENS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = hf.AutoModel.from_config(config)
    for saved in (tokeniser, model):
        saved.save_pretrained(folder)
    return folder
