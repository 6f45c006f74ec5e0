from .deform_conv import deform_conv2d as deform_conv2d
from .mixed_batch_norm import normalised_sum as normalised_sum
from .mixed_batch_norm import statistics_kept as statistics_kept
from .sampled_product import SampledProduct as SampledProduct
from .separable_conv import SeparableProduct as SeparableProduct
from .sync_batch_norm import SynchronisedBatchNorm2d as SynchronisedBatchNorm2d
from .sync_batch_norm import synchronise as synchronise
