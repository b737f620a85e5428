"""Adam in one kernel per step: `torch.optim.Adam(fused=True)` to the bit, without its compiler.

Importing `torch.optim` also imports PyTorch's compiler, which no training here uses and which costs
every process more than a second. The kernel is the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

BETAS = 0.9, 0.999
EPSILON = 1e-8


class Adam:
    """Adam (Kingma and Ba 2015), or AdamW (Loshchilov and Hutter 2019) where weights decay.

    Attributes:
        state: What is kept of each parameter from its first step on: "step", a float32 scalar, and
            "exp_avg" and "exp_avg_sq", the moments of its gradient, shaped as it is.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        learning_rate: float,
        decoupled_weight_decay: float | None = None,
    ) -> None:
        """Take the parameters of a model, all of one type and on one device.

        Args:
            parameters: What is trained.
            learning_rate: The size of a step.
            decoupled_weight_decay: AdamW's share of itself that a weight loses in a step, by the
                learning rate; None for Adam.
        """
        self.parameters = list(parameters)
        self.learning_rate = learning_rate
        self.decoupled_weight_decay = decoupled_weight_decay
        self.state: defaultdict[nn.Parameter, dict[str, Tensor]] = defaultdict(dict)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take a step on every parameter that has a gradient."""
        trained = [parameter for parameter in self.parameters if parameter.grad is not None]
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        if not trained:
            return
        states = list(map(self._state_of, trained))
        steps, means, squares = (
            [state[name] for state in states] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        torch._foreach_add_(steps, 1)
        is_decoupled = self.decoupled_weight_decay is not None
        kernel = torch._fused_adamw_ if is_decoupled else torch._fused_adam_
        kernel(
            [*trained],
            gradients,
            means,
            squares,
            [],  # largest second moments, which another variant keeps
            steps,
            lr=self.learning_rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=self.decoupled_weight_decay or 0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
            grad_scale=None,
            found_inf=None,
        )

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state
