"""A tiny Llama with random weights: proves an installation without a download.

The same seed gives the same bytes on every machine and Python. Its answers are random words by
design, and readable ones: dimension 0 of the residual stream is the same constant for every
token (no layer writes to it), so column 0 of `lm_head` is a bias on the logits, which Llama
otherwise lacks. Bytes and control tokens are pushed out of reach with it, and the end of turn is
made about as likely as one token in twenty.

float16 on disk, because cards before compute capability 8.0 lack bfloat16. Eight attention and
four KV heads: legal for one, two, four and eight ranks.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from statistics import NormalDist
from typing import Any

HIDDEN_SIZE = 128
INTERMEDIATE_SIZE = 256
NUM_HIDDEN_LAYERS = 2
NUM_ATTENTION_HEADS = 8
NUM_KEY_VALUE_HEADS = 4
HEAD_DIM = 32
CONTEXT_TOKENS = 2048

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_OF_TEXT, _, END_OF_TURN = range(len(SPECIALS))
_TEXT = (
    "a and the of to in on with over under from by for is are was has can will may one two three "
    "four five six eight many few some each every this that these it they we you he she card "
    "cards rig rack fan fans cable riser slot board power supply switch rail watt volt heat cold "
    "warm hot cool quiet loud fast slow wide narrow long short tall small big even odd old new red "
    "green blue grey white dark bright light metal glass wood stone river lake hill road house "
    "door window table chair lamp book page word line story song bird fox dog cat tree leaf "
    "rain snow wind sun moon star night morning spring winter hums runs reads writes"
)
WORDS = tuple(_TEXT.split())
VOCABULARY_SIZE = len(SPECIALS) + 256 + len(WORDS)  # 384: every small TP size divides it

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_CONSTANT = 4.0
_OUT_OF_REACH = -8.0
_END_OF_TURN_BIAS = 0.9


def make(directory: Path, *, seed: int = 0) -> Path:
    """Write the model's files into `directory` (made if missing) and return it. OSError passes."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in _documents().items():
        text = json.dumps(value, indent=1, ensure_ascii=True) + "\n"
        (directory / name).write_text(text, encoding="utf-8")
    (directory / "model.safetensors").write_bytes(_safetensors(_tensors(seed)))
    return directory


def _documents() -> dict[str, Any]:
    ends = {"bos_token_id": None, "eos_token_id": END_OF_TURN, "pad_token_id": END_OF_TEXT}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": INTERMEDIATE_SIZE,
        "num_hidden_layers": NUM_HIDDEN_LAYERS,
        "num_attention_heads": NUM_ATTENTION_HEADS,
        "num_key_value_heads": NUM_KEY_VALUE_HEADS,
        "head_dim": HEAD_DIM,
        "vocab_size": VOCABULARY_SIZE,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        **ends,
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT_TOKENS,
        "bos_token": None,
        "eos_token": SPECIALS[END_OF_TURN],
        "pad_token": SPECIALS[END_OF_TEXT],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    return {
        "config.json": config,
        "generation_config.json": {"do_sample": True, "temperature": 1.0, **ends},
        "tokenizer_config.json": tokenizer_config,
        "tokenizer.json": _tokenizer(),
    }


def _tokenizer() -> dict[str, Any]:
    """Byte-level BPE without merges: any text encodes, as bytes where it is not a known word.

    The format is that of the `tokenizers` library; `ignore_merges` lets a whole word be found in
    the vocabulary although no merge leads to it.
    """
    tokens = [*SPECIALS, *_byte_letters(), *("\u0120" + word for word in WORDS)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index, token in enumerate(SPECIALS)
        ],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [],
        },
    }


def _byte_letters() -> list[str]:
    """The letter that byte-level BPE writes for each byte (GPT-2's table): visible ones as is."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


Tensor = tuple[tuple[int, ...], bytes]


def _tensors(seed: int) -> dict[str, Tensor]:
    """Every weight as (shape, float16 bytes), by its Hugging Face name."""
    queries = NUM_ATTENTION_HEADS * HEAD_DIM
    keys = NUM_KEY_VALUE_HEADS * HEAD_DIM
    tensors = {
        "model.embed_tokens.weight": _with_column(
            _normal(seed, "embed", VOCABULARY_SIZE, HIDDEN_SIZE, deviation=1.0),
            [_CONSTANT] * VOCABULARY_SIZE,
        ),
        "model.norm.weight": _ones(HIDDEN_SIZE),
        "lm_head.weight": _with_column(
            _normal(seed, "head", VOCABULARY_SIZE, HIDDEN_SIZE), _logit_biases()
        ),
    }
    for layer in range(NUM_HIDDEN_LAYERS):
        prefix = f"model.layers.{layer}."
        matrices = {
            "self_attn.q_proj": (queries, HIDDEN_SIZE),
            "self_attn.k_proj": (keys, HIDDEN_SIZE),
            "self_attn.v_proj": (keys, HIDDEN_SIZE),
            "self_attn.o_proj": (HIDDEN_SIZE, queries),
            "mlp.gate_proj": (INTERMEDIATE_SIZE, HIDDEN_SIZE),
            "mlp.up_proj": (INTERMEDIATE_SIZE, HIDDEN_SIZE),
            "mlp.down_proj": (HIDDEN_SIZE, INTERMEDIATE_SIZE),
        }
        for name, (rows, columns) in matrices.items():
            tensor = _normal(seed, prefix + name, rows, columns)
            writes_residual = name.endswith(("o_proj", "down_proj"))
            tensors[f"{prefix}{name}.weight"] = _silent_row(tensor) if writes_residual else tensor
        tensors[prefix + "input_layernorm.weight"] = _ones(HIDDEN_SIZE)
        tensors[prefix + "post_attention_layernorm.weight"] = _ones(HIDDEN_SIZE)
    return tensors


def _logit_biases() -> list[float]:
    biases = [_OUT_OF_REACH] * VOCABULARY_SIZE
    first_word = len(SPECIALS) + 256
    biases[first_word : first_word + len(WORDS)] = [0.0] * len(WORDS)
    biases[END_OF_TURN] = _END_OF_TURN_BIAS
    return biases


def _normal(seed: int, name: str, rows: int, columns: int, deviation: float = 0.0) -> Tensor:
    """Normal values in 256 steps; a deviation of 0 means 1 / sqrt(columns), which keeps scale."""
    scale = deviation or columns**-0.5
    normal = NormalDist(0.0, scale)
    table = [struct.pack("<e", normal.inv_cdf((step + 0.5) / 256)) for step in range(256)]
    noise = hashlib.shake_256(f"{seed}/{name}".encode()).digest(rows * columns)
    data = bytearray(2 * len(noise))
    data[0::2] = noise.translate(bytes(value[0] for value in table))
    data[1::2] = noise.translate(bytes(value[1] for value in table))
    return (rows, columns), bytes(data)


def _ones(size: int) -> Tensor:
    return (size,), struct.pack("<e", 1.0) * size


def _with_column(tensor: Tensor, values: list[float]) -> Tensor:
    """Column 0 replaced."""
    (rows, columns), data = tensor
    changed = bytearray(data)
    for row, value in zip(range(rows), values, strict=True):
        struct.pack_into("<e", changed, 2 * row * columns, value)
    return (rows, columns), bytes(changed)


def _silent_row(tensor: Tensor) -> Tensor:
    """Row 0 zeroed, so that the layer does not write to dimension 0."""
    (rows, columns), data = tensor
    return (rows, columns), bytes(2 * columns) + data[2 * columns :]


def _safetensors(tensors: dict[str, Tensor]) -> bytes:
    """The safetensors format: header length (8 bytes), JSON header padded to 8, then the data."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (shape, data) in sorted(tensors.items()):
        end = offset + len(data)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(data for _, (_, data) in sorted(tensors.items()))
    return len(text).to_bytes(8, "little") + text + body
