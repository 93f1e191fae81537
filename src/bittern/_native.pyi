# SPDX-License-Identifier: Apache-2.0
"""The native extension. Pointers are integers: the callers in `bittern.ops` have checked dtype, shape and layout."""

def cpu_features() -> dict[str, bool]: ...
def instruction_sets() -> list[tuple[str, int, str, bool, tuple[str, ...]]]: ...
def available_isas() -> list[str]: ...
def adopt_openmp(path: str) -> bool: ...
def pool_name() -> str: ...
def sign(isa: int, threads: int, x: int, dtype: int, n: int, out: int) -> None: ...
def clipped_sign(isa: int, threads: int, x: int, n: int, limit: float, strict: bool, out: int, mask: int) -> None: ...
def clipped_levels(isa: int, threads: int, x: int, n: int, bits: int, out: int, mask: int) -> None: ...
def masked_gradient(isa: int, threads: int, grad: int, mask: int, n: int, factor: float, out: int) -> None: ...
def approx_sign_gradient(isa: int, threads: int, grad: int, x: int, n: int, out: int) -> None: ...
def error_decay_gradient(isa: int, threads: int, grad: int, x: int, n: int, t: float, k: float, out: int) -> None: ...
def fourier_gradient(
    isa: int,
    threads: int,
    grad: int,
    x: int,
    n: int,
    terms: int,
    omega: float,
    limit: float,
    rising: bool,
    wave: float,
    out: int,
) -> None: ...
def noisy_sign(isa: int, threads: int, x: int, noise: int, n: int, wave: float, out: int) -> None: ...
def adapted_sign(
    isa: int,
    threads: int,
    x: int,
    rows: int,
    columns: int,
    down: int,
    up: int,
    hidden: int,
    alpha: float,
    wave: float,
    turned: int,
    out: int,
) -> None: ...
def adapted_sign_gradient(
    isa: int,
    threads: int,
    x: int,
    rows: int,
    columns: int,
    down: int,
    up: int,
    hidden: int,
    alpha: float,
    wave: float,
    turned: int,
    grad: int,
    terms: int,
    omega: float,
    limit: float,
    rising: bool,
    parts: int,
    sums: int,
    to_x: int,
    to_down: int,
    to_up: int,
) -> None: ...
def scaled_gradient(
    isa: int, threads: int, grad: int, y: int, factor: int, rows: int, n: int, to_y: int, to_factor: int
) -> None: ...
def scaled_gradient_of_whole(
    isa: int, threads: int, grad: int, lifted: int, factor: int, rows: int, n: int, to_y: int, to_factor: int
) -> None: ...
def scale_whole(isa: int, threads: int, y: int, factor: int, rows: int, n: int, out: int, lifted: int) -> bool: ...
def shifted_sign(
    isa: int, threads: int, x: int, shift: int, outer: int, channels: int, inner: int, out: int
) -> None: ...
def shifted_sign_sums(outer: int, channels: int, inner: int) -> int: ...
def shifted_sign_gradient(
    isa: int,
    threads: int,
    grad: int,
    x: int,
    shift: int,
    outer: int,
    channels: int,
    inner: int,
    sums: int,
    to_x: int,
    to_shift: int,
) -> None: ...
def standard_sign(
    isa: int, threads: int, x: int, samples: int, n: int, epsilon: float, out: int, statistics: int
) -> None: ...
def standard_sign_gradient(
    isa: int, threads: int, grad: int, x: int, statistics: int, samples: int, n: int, out: int
) -> None: ...
def flat_bits(isa: int, threads: int, x: int, n: int, low: float, out: int) -> bool: ...
def rows_of_bits(isa: int, threads: int, bits: int, rows: int, columns: int, out: int) -> None: ...
def from_flat_bits(isa: int, threads: int, bits: int, n: int, low: float, out: int) -> None: ...
def mean_magnitude(
    isa: int,
    threads: int,
    x: int,
    samples: int,
    pixels: int,
    channels: int,
    sample_step: int,
    pixel_step: int,
    channel_step: int,
    out: int,
) -> None: ...
def window_mean(
    isa: int,
    threads: int,
    means: int,
    batch: int,
    size: tuple[int, int],
    out_size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    out: int,
) -> None: ...
def pack_signs(isa: int, threads: int, x: int, dtype: int, rows: int, cols: int, threshold: int, out: int) -> None: ...
def pack_planar(
    isa: int,
    threads: int,
    x: int,
    dtype: int,
    images: int,
    pixels: int,
    channels: int,
    threshold: int,
    out: int,
) -> None: ...
def unpack_signs(isa: int, threads: int, words: int, rows: int, cols: int, dtype: int, out: int) -> None: ...
def count_in_cache(isa: int, repeats: int) -> int: ...
def prepared_bytes(isa: int, out_channels: int, taps: int, channels: int, groups: int) -> int: ...
def prepare_weights(isa: int, w: int, out_channels: int, taps: int, channels: int, groups: int, out: int) -> None: ...
def binary_conv2d(
    isa: int,
    threads: int,
    x: int,
    n: int,
    h: int,
    w: int,
    channels: int,
    prepared: int,
    out_channels: int,
    kh: int,
    kw: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dil_h: int,
    dil_w: int,
    groups: int,
    pad_value: int,
    epilogue: int,
    out: int,
) -> None: ...
def binary_matmul(
    isa: int, threads: int, a: int, m: int, k: int, prepared: int, n_out: int, epilogue: int, out: int
) -> None: ...
def step_fields() -> dict[str, list[tuple[str, int, int]]]: ...
def step_tensor_fields() -> list[tuple[str, int, int]]: ...
def run_block_program(isa: int, threads: int, steps: int, count: int) -> None: ...
def integer_conv_sizes(isa: int, step: int) -> tuple[int, int]: ...
def integer_conv_prepare(isa: int, step: int, w: int, given: int, weights: int, rows: int) -> None: ...
def integer_recurrent_fields() -> dict[str, list[tuple[str, int, int]]]: ...
def integer_recurrent_bytes(isa: int, product: int) -> int: ...
def integer_recurrent_prepare(isa: int, product: int, w: int, weights: int, bias: int) -> None: ...
def integer_recurrent(isa: int, threads: int, layer: int) -> None: ...
def optimizer_step(
    isa: int,
    threads: int,
    rule: int,
    tensors: int,
    count: int,
    scalars: int,
    scalars_per_row: int,
    stochastic: bool,
    seed: int,
    norms: int = 0,
    ratios: int = 0,
    state_seeds: int = 0,
    state_seed_count: int = 0,
    at_random: int = 0,
) -> None: ...
def quantize_blockwise(
    isa: int,
    threads: int,
    x: int,
    dtype: int,
    n: int,
    block_size: int,
    code: int,
    entries: int,
    nibbles: bool,
    keep_nonzero: bool,
    stochastic: bool,
    seed: int,
    codes: int,
    absmax: int,
) -> None: ...
def dequantize_blockwise(
    isa: int,
    threads: int,
    codes: int,
    absmax: int,
    code: int,
    entries: int,
    n: int,
    block_size: int,
    nibbles: bool,
    dtype: int,
    out: int,
) -> None: ...
def linear_4bit(
    isa: int,
    threads: int,
    x: int,
    dtype: int,
    m: int,
    packed: int,
    scales: tuple[int, int, int, int, int],
    code: int,
    block_size: int,
    n: int,
    k: int,
    bias: int,
    out: int,
) -> None: ...
def linear_4bit_backward(
    isa: int,
    threads: int,
    grad: int,
    dtype: int,
    m: int,
    packed: int,
    scales: tuple[int, int, int, int, int],
    code: int,
    block_size: int,
    n: int,
    k: int,
    out: int,
) -> None: ...
def linear_8bit(
    isa: int,
    threads: int,
    x: int,
    dtype: int,
    m: int,
    n: int,
    k: int,
    weight: int,
    scale: int,
    bias: int,
    extra: int,
    out: int,
) -> None: ...
def linear_groups(
    isa: int,
    threads: int,
    x: int,
    dtype: int,
    m: int,
    codes: int,
    bits: int,
    scale: int,
    scale_type: int,
    zero: int,
    byte_zero: bool,
    group: int,
    n: int,
    k: int,
    bias: int,
    int8: bool,
    out: int,
) -> None: ...
def dequantize_groups(
    isa: int,
    threads: int,
    codes: int,
    bits: int,
    scale: int,
    scale_type: int,
    zero: int,
    byte_zero: bool,
    group: int,
    n: int,
    k: int,
    dtype: int,
    out: int,
) -> None: ...
def multibit_quantize(
    isa: int,
    threads: int,
    x: int,
    rows: int,
    n: int,
    planes: int,
    cycles: int,
    refined: bool,
    words: int,
    scale: int,
) -> None: ...
def multibit_bytes(isa: int, planes: int, rows: int, n: int) -> int: ...
def multibit_prepare(isa: int, canonical: int, planes: int, rows: int, n: int, prepared: int) -> None: ...
def multibit_matvec(
    isa: int,
    threads: int,
    x: int,
    x_scale: int,
    batch: int,
    x_planes: int,
    weights: int,
    w_scale: int,
    bias: int,
    w_planes: int,
    rows: int,
    n: int,
    out: int,
) -> None: ...
def multibit_linear(
    isa: int,
    threads: int,
    x: int,
    batch: int,
    x_planes: int,
    cycles: int,
    refined: bool,
    weights: int,
    w_scale: int,
    bias: int,
    w_planes: int,
    rows: int,
    n: int,
    out: int,
) -> None: ...
