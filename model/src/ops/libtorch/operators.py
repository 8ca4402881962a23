class Operators(Module):
  __parameters__ = []
  __buffers__ = []
  def adamw(self: __torch__.Operators,
    weights: List[Tensor],
    gradients: List[Tensor],
    first: List[Tensor],
    second: List[Tensor],
    steps: List[Tensor],
    learning_rate: float,
    beta_1: float,
    beta_2: float,
    weight_decay: float,
    epsilon: float) -> NoneType:
    _0 = torch._fused_adamw_(weights, gradients, first, second, [], steps,
      lr=learning_rate, beta1=beta_1, beta2=beta_2, weight_decay=weight_decay, eps=epsilon,
      amsgrad=False, maximize=False)
    return None
  def layer_norm_backward(self: __torch__.Operators,
    x: Tensor,
    gamma: Tensor,
    grad: Tensor,
    epsilon: float,
    wanted: List[bool]) -> Tuple[Tensor, Tensor, Tensor]:
    shape = [torch.size(x, 1)]
    _0, mean, inverse, = torch.native_layer_norm(x, shape, gamma, None, epsilon)
    of_x, of_gamma, of_beta, = torch.native_layer_norm_backward(grad, x, shape, mean, inverse, gamma, gamma, wanted)
    return (of_x, of_gamma, of_beta)
