"""A small Llama whose parameters carry the names of Hugging Face's LlamaForCausalLM."""
import json
import pathlib
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn


@dataclass
class Config:
    vocab_size: int = 4096
    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    max_position_embeddings: int = 40960
    rope_theta: float = 1e7
    rms_norm_eps: float = 1e-5


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.hidden_size, c.num_attention_heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.num_attention_heads * c.head_dim, c.hidden_size, bias=False)

    def forward(self, x, cos, sin):
        rows, length, _ = x.shape
        split = lambda y: y.view(rows, length, -1, self.c.head_dim).transpose(1, 2)
        q, k, v = rotate(split(self.q_proj(x)), cos, sin), rotate(split(self.k_proj(x)), cos, sin), split(self.v_proj(x))
        group = self.c.num_attention_heads // self.c.num_key_value_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(rows, length, -1))


def rotate(x, cos, sin):
    """Rotary embedding on the two halves of each head, in the type of x."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn, self.mlp = Attention(c), MLP(c)
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Token ids to hidden states; `logits` applies the head."""

    def __init__(self, c):
        super().__init__()
        self.config = c
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.lm_head = nn.Linear(c.hidden_size, c.vocab_size, bias=False)
        self.register_buffer("freq", c.rope_theta ** -(torch.arange(0, c.head_dim, 2) / c.head_dim), persistent=False)
        # The residual stream starts as the bare token, large against what the layers add. A small
        # embedding, or one tied to the head, is drowned or drifts before any copying is learnt.
        for name, p in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(p)
            elif p.dim() == 2:
                std = {"embed_tokens.weight": 0.5, "lm_head.weight": 0.02}.get(name, c.hidden_size ** -0.5)
                nn.init.normal_(p, std=std)

        self.look_back()

    @torch.no_grad()
    def look_back(self, sharpness=4.0, pairs=10, bias=4.0):
        """Starts the heads of the first layer as looks at the 1st, 2nd, 3rd... token before.

        One dimension of the embedding starts equal in all tokens and so serves the projections as
        a bias; through it a query asks for a distance by the phases of its fastest rotary pairs.
        All of it is trained on. From a random start such heads take long to form, as a sharp one
        needs large weights, and nothing is copied before they are there.
        """
        c, first = self.config, self.layers[0].self_attn
        self.embed_tokens.weight[:, 0] = bias
        size = (sharpness * c.head_dim ** 0.5) ** 0.5 / (bias / self.embed_tokens.weight.pow(2).mean().sqrt())
        half, f = c.head_dim // 2, self.freq[:pairs]
        keys = first.k_proj.weight.view(c.num_key_value_heads, c.head_dim, -1)
        keys[:, :pairs, 0], keys[:, half:half + pairs, 0] = size, 0.0
        queries = first.q_proj.weight.view(c.num_attention_heads, c.head_dim, -1)
        for head, query in enumerate(queries):
            angle = -(head + 1) * f
            query[:pairs, 0], query[half:half + pairs, 0] = size * angle.cos(), size * angle.sin()

    def forward(self, tokens, positions):
        x = self.embed_tokens(tokens)
        angle = positions[:, None, :, None].float() * self.freq
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)

    def logits(self, x):
        return self.lm_head(x)

    def save(self, folder, specials):
        """A Hugging Face checkpoint; `specials` gives the ids of the begin and end tokens."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name if name.startswith("lm_head") else f"model.{name}": p.to("cpu", torch.bfloat16).contiguous()
                   for name, p in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **asdict(self.config),
                  "hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False,
                  "initializer_range": 0.02, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
                  "use_cache": True, **specials}
        (folder / "config.json").write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n")
        (folder / "generation_config.json").write_text(json.dumps({**specials, "do_sample": False}, indent=2) + "\n")

    @classmethod
    def load(cls, folder):
        folder = pathlib.Path(folder)
        fields = json.loads((folder / "config.json").read_text())
        model = cls(Config(**{name: fields[name] for name in Config.__dataclass_fields__}))
        weights = load_file(folder / "model.safetensors")
        model.load_state_dict({name.removeprefix("model."): w.float() for name, w in weights.items()})
        return model
