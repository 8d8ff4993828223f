"""Where the residual stream is: decoder layers of a loaded model, in either engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esr.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, ModuleList


def decoder_layers(model: Module, n_layers: int) -> ModuleList:
    """The stack of decoder layers: the one module list with ``n_layers`` entries. Lists inside
    another, such as as many experts in a layer, do not count.

    Layer ``i``'s output is Hugging Face's ``hidden_states[i + 1]``.

    Raises:
        UserError: none or several such lists, so the model is no plain decoder stack.
    """
    from torch.nn import ModuleList

    stacks: dict[str, ModuleList] = {}
    for name, module in model.named_modules():
        inner = any(name.startswith(f"{outer}.") for outer in stacks)
        if isinstance(module, ModuleList) and len(module) == n_layers and not inner:
            stacks[name] = module
    if len(stacks) != 1:
        raise UserError(
            f"{type(model).__name__} has {len(stacks)} stacks of {n_layers} layers",
            "a model with one stack of decoder layers, such as Llama or Gemma",
            "choose another model",
        )
    return next(iter(stacks.values()))


def check_layer(name: str, layer: int, n_layers: int) -> None:
    """Refuse a layer the model does not have.

    Raises:
        UserError: out of range.
    """
    if not 0 <= layer < n_layers:
        raise UserError(
            f"{name} {layer} does not exist", f"0 to {n_layers - 1}", f"choose another {name}"
        )


def residual_of(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The residual stream in a Hugging Face layer's output: [batch, n_tokens, d_model]."""
    return output[0] if isinstance(output, tuple) else output


def with_residual(
    output: Tensor | tuple[Tensor, ...], residual: Tensor
) -> Tensor | tuple[Tensor, ...]:
    """A Hugging Face layer's output with another residual stream."""
    return (residual, *output[1:]) if isinstance(output, tuple) else residual
