// y[r, c] = (x[r, c] - mean[c]) / sqrt(variance[c] + EPS) weight[c] + bias[c], with the statistics of the batch or the
// running ones; `columns` and `count` in quads. An invocation owns one quad. FLOPs: 6 a value. Bytes: 8 a value.
struct Sizes {
  count: u32,
  columns: u32,
}
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read> mean: array<Quad>;
@group(0) @binding(2) var<storage, read> variance: array<Quad>;
@group(0) @binding(3) var<storage, read> weight: array<Quad>;
@group(0) @binding(4) var<storage, read> bias: array<Quad>;
@group(0) @binding(5) var<storage, read_write> y: array<Quad>;
@group(0) @binding(6) var<storage, read> sizes: Sizes;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i < sizes.count) {
    let c = i % sizes.columns;
    y[i] = (x[i] - mean[c]) * inverseSqrt(variance[c] + EPS) * weight[c] + bias[c];
  }
}
