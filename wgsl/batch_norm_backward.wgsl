// dx = weight rstd (dy - (sums[1] + n sums[0]) / rows) with the statistics of the BATCH, n the normalised x and sums [2,
// columns] those of batch_norm_backward_sums.wgsl; dx = weight rstd dy with running statistics. `columns` and `count` in
// quads. An invocation owns one quad. FLOPs: 9 a value. Bytes: 12 a value.
struct Sizes {
  count: u32,
  columns: u32,
  rows: u32,
}
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read> mean: array<Quad>;
@group(0) @binding(2) var<storage, read> variance: array<Quad>;
@group(0) @binding(3) var<storage, read> weight: array<Quad>;
@group(0) @binding(4) var<storage, read> sums: array<Quad>;
@group(0) @binding(5) var<storage, read> dy: array<Quad>;
@group(0) @binding(6) var<storage, read_write> dx: array<Quad>;
@group(0) @binding(7) var<storage, read> sizes: Sizes;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= sizes.count) {
    return;
  }
  let c = i % sizes.columns;
  let rstd = inverseSqrt(variance[c] + EPS);
  var d = dy[i];
  if (BATCH) {
    let normalised = (x[i] - mean[c]) * rstd;
    d -= (sums[sizes.columns + c] + normalised * sums[c]) / f32(sizes.rows);
  }
  dx[i] = weight[c] * rstd * d;
}
