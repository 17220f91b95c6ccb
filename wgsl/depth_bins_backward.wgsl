// dlogits[r, k] = ddepth[r] (centres_k - depth[r]) / sums[r] where logits[r, k] > 0, else 0; see depth_bins.wgsl.
// An invocation owns one logit. FLOPs: 4 a logit. Bytes: 8 a logit, 12 a row.
struct Sizes {
  rows: u32,
  bins: u32,
}
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> centres: array<f32>;
@group(0) @binding(2) var<storage, read> depth: array<f32>;
@group(0) @binding(3) var<storage, read> sums: array<f32>;
@group(0) @binding(4) var<storage, read> ddepth: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(6) var<storage, read> sizes: Sizes;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  let row = i / sizes.bins;
  if (row < sizes.rows) {
    let slope = ddepth[row] * (centres[i % sizes.bins] - depth[row]) / sums[row];
    dlogits[i] = select(0.0, slope, logits[i] > 0.0);
  }
}
