// Joins the partial moments of batch_norm_moments.wgsl in their order (Chan's formula): mean and biased variance of each
// column, and running = (1 - MOMENTUM) running + MOMENTUM new, the running variance from the unbiased one.
// An invocation owns one column. FLOPs: 10 parts columns. Bytes: 8 parts columns, 24 columns.
struct Sizes {
  rows: u32,
  columns: u32,
  parts: u32,
}
@group(0) @binding(0) var<storage, read> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> mean: array<f32>;
@group(0) @binding(2) var<storage, read_write> variance: array<f32>;
@group(0) @binding(3) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> running_variance: array<f32>;
@group(0) @binding(5) var<storage, read> sizes: Sizes;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let c = group.x * 64u + lane;
  if (c >= sizes.columns) {
    return;
  }
  var count = 0.0;
  var joined = 0.0;
  var squares = 0.0;
  for (var p = 0u; p < sizes.parts; p++) {
    let more = f32((sizes.rows - p + sizes.parts - 1u) / sizes.parts);
    let apart = partial[2u * p * sizes.columns + c] - joined;
    let share = more / (count + more);
    squares += partial[(2u * p + 1u) * sizes.columns + c] + apart * apart * count * share;
    joined += apart * share;
    count += more;
  }
  mean[c] = joined;
  variance[c] = squares / count;
  running_mean[c] = mix(running_mean[c], joined, MOMENTUM);
  running_variance[c] = mix(running_variance[c], squares / (count - 1.0), MOMENTUM);
}
