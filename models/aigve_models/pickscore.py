"""PickScore: CLIP ViT-H/14, trained on which of two pictures people prefer for a prompt.

Paper: Kirstain et al., Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image
Generation, NeurIPS 2023 (arXiv:2305.01569). Reference: https://github.com/yuvalkirstain/PickScore,
commit f79607f (MIT).

The network is that of ``clip``. Its score is the cosine times ``logit[0]``, and is a probability of
being preferred after a softmax over the pictures of one prompt.
"""

from aigve_models.clip import folder_to_picture_size, load

__all__ = ["folder_to_picture_size", "load"]
