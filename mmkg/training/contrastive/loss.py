r"""The contrastive loss of pictures and captions where a caption may be true of several pictures.

.. math::
    L = \tfrac12 \Big( -\frac1B \sum_i \frac{1}{|P_i|} \sum_{j \in P_i} \log \frac{e^{s_{ij}}}{\sum_k e^{s_{ik}}}
        - \frac1M \sum_j \frac{1}{|Q_j|} \sum_{i \in Q_j} \log \frac{e^{s_{ij}}}{\sum_k e^{s_{kj}}} \Big),
    \quad s_{ij} = \tau \, u_i \cdot v_j

with :math:`P_i` the captions of the batch that are true of picture i and :math:`Q_j` the pictures of the batch of which
caption j is true. With one caption a picture and none that is true of another, this is CLIP's symmetric cross-entropy.

Source: CLIP, Radford et al., ICML 2021, arXiv:2103.00020, figure 3, where every other caption of a batch is a wrong
one; the form with several right ones is the bidirectional loss of UniCL, Yang et al., CVPR 2022, arXiv:2204.03610,
which sums over the batch where we take means, so that the loss does not grow with it.
"""

import torch
from torch import Tensor


def multi_positive_loss(image_BD: Tensor, text_MD: Tensor, logit_scale: Tensor, positive_BM: Tensor) -> Tensor:
    """Return the loss above, a scalar.

    Args:
        image_BD: vectors of pictures, of length 1.
        text_MD: vectors of captions, of length 1.
        logit_scale: the inverse temperature, a positive scalar (not its logarithm).
        positive_BM: True where the caption is true of the picture; every row and every column has one at least.
    """
    logit_BM = logit_scale * image_BD @ text_MD.t()
    share_BM = positive_BM.to(logit_BM.dtype)
    by_image = -(share_BM * torch.log_softmax(logit_BM, dim=1)).sum(dim=1) / share_BM.sum(dim=1)
    by_text = -(share_BM * torch.log_softmax(logit_BM, dim=0)).sum(dim=0) / share_BM.sum(dim=0)
    return (by_image.mean() + by_text.mean()) / 2
