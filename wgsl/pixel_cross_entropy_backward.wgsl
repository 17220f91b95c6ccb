// dlogits[r, k] = upstream / counted (softmax(z[r])_k - [k = label]), 0 in rows whose label is IGNORED or names no class;
// totals holds the sum of the losses and how many rows counted. statistics: see pixel_cross_entropy.wgsl.
// An invocation owns one logit. FLOPs: 5 a logit. Bytes: 8 a logit, 12 a row.
struct Sizes {
  rows: u32,
  classes: u32,
}
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> totals: array<f32>;
@group(0) @binding(4) var<storage, read> upstream: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(6) var<storage, read> sizes: Sizes;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  let row = i / sizes.classes;
  if (row >= sizes.rows) {
    return;
  }
  let label = labels[row];
  if (label == IGNORED || label >= sizes.classes) {
    dlogits[i] = 0.0;
    return;
  }
  let row_statistics = statistics[row];
  let probability = exp(logits[i] - row_statistics.x - row_statistics.y);
  let wanted = select(0.0, 1.0, i % sizes.classes == label);
  dlogits[i] = upstream[0] / totals[1] * (probability - wanted);
}
